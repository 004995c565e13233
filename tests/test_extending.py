"""Parts of one's own from outside the package: the files of ``examples/extending`` in real jobs."""

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skip_exp import Skill, pipeline
from skip_exp.cache.store import stage_key
from skip_exp.cache.version import parts_code
from skip_exp.config import schema
from skip_exp.errors import SkipError
from skip_exp.models.family import Site
from skip_exp.models.trained import skill_parameters
from skip_exp.phases.fit import fit_dense
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import method_of, prepare
from skip_exp.pruning.allocate import Group
from tests.cache.test_store import forget_all
from tests.helpers.toy import toy_job
from tests.helpers.written import ROOT

EXAMPLES = Path("examples/extending")
MODULES = ("my_attribution", "my_allocation")
OTHERS = ("mine", "raising", "lacking", "broken", "alien", "open", "odd")  # made by tests
PAGE = ROOT / "docs/extending.md"
SHOWN = re.compile(r"^`(examples/\S+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = ["the film was good", "the plot was dull"]


@dataclass
class Place:
    """A user's folder: a copy of the examples in it, their modules to be imported from there."""

    root: Path
    toy: list[str]

    @property
    def own(self) -> Path:
        return self.root / EXAMPLES

    def config(self, *overrides: str, task: str = "", backbone: str = "") -> schema.Config:
        """A tiny job with the examples' configuration beside the package's."""
        fixed = [x for x in self.toy if not (task and x.lstrip("+").startswith("task."))]
        fixed = [x for x in fixed if not (backbone and x.startswith("backbone.name="))]
        groups = [
            *([f"+task={task}"] if task else []),
            f"hydra.searchpath=[file://{self.own}/conf]",
        ]
        groups += [f"backbone={backbone}"] if backbone else []
        return toy_job(fixed, self.root, "job", *groups, *overrides)

    def job(self, *overrides: str) -> Job:
        """The job that the user's files, as they are now, make of it."""
        forget()
        return prepare(self.config(*overrides))

    def run(self, *overrides: str, **groups: str) -> dict[str, Any]:
        """Result of a whole job, its skill's tensors in ``tensors``."""
        cfg = self.config(*overrides, **groups)
        result: dict[str, Any] = dict(pipeline.run(cfg))
        assert result["status"] == "done" and not result["data_is_sample"]
        assert result["ratio"] == 0.5 and 0.42 < result["params"]["block_pruned"] <= 0.5
        tensors = load_file(Path(cfg.output_dir) / "skill/skill.safetensors")
        return result | {"tensors": tensors}


def forget() -> None:
    """As a new process: neither the user's modules nor their sources are known."""
    for name in (*MODULES, *OTHERS):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    forget_all()


@contextmanager
def inside(place: Place) -> Iterator[None]:
    """In the user's folder, as a new process that finds the user's modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.root)
        patch.syspath_prepend(place.own)
        patch.setattr(sys, "dont_write_bytecode", True)  # two edits within one second
        forget()
        yield
    forget()


@pytest.fixture
def place(tmp_path: Path, toy: list[str]) -> Iterator[Place]:
    shutil.copytree(ROOT / EXAMPLES, tmp_path / EXAMPLES)
    place = Place(tmp_path, toy)
    with inside(place):
        yield place


@pytest.fixture(scope="module")
def done(toy: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """The folder and the result of a job with a part of every kind."""
    place = Place(tmp_path_factory.mktemp("all"), toy)
    shutil.copytree(ROOT / EXAMPLES, place.own)
    with inside(place):
        parts = ("attribution=activation_power", "prune=top_down")
        return place, place.run(*parts, task="my_reviews")


# --- the page -----------------------------------------------------------------------------------


def test_the_page_shows_the_files_themselves() -> None:
    shown = dict(SHOWN.findall(PAGE.read_text(encoding="utf-8")))
    for file in [*(ROOT / EXAMPLES).glob("*.py"), *(ROOT / EXAMPLES / "conf").rglob("*.yaml")]:
        assert file.relative_to(ROOT).as_posix() in PAGE.read_text(encoding="utf-8")
    assert shown
    for name, text in shown.items():
        assert text == (ROOT / name).read_text(encoding="utf-8"), name


# --- each of the four, used in a job ------------------------------------------------------------


def test_a_job_has_all_parts(done: tuple[Place, dict[str, Any]]) -> None:
    _, result = done
    assert (result["task"], result["n_eval"]) == ("my_reviews", 10)
    assert result["data_source"] == f"local:{EXAMPLES}/made_up"
    assert set(result["metrics"]) == {"accuracy", "f1"}
    assert result["config"]["attribution"]["_target_"] == "my_attribution.scores"
    assert result["config"]["prune"]["allocation"] == "my_allocation.order"
    sizes = {Site(site): kept for site, (kept, _) in result["keep_sizes"].items()}
    assert not any(kept for site, kept in sizes.items() if site.sublayer.layer == 1)
    assert all(kept for site, kept in sizes.items() if site.sublayer.layer == 0)


def test_its_skill_is_loaded_without_them(done: tuple[Place, dict[str, Any]]) -> None:
    place, result = done
    skill = Skill.load(place.root / "job/skill")
    assert not set(MODULES) & set(sys.modules)
    for name, parameter in skill_parameters(skill.model).items():
        assert torch.equal(parameter, result["tensors"][name]), name
    (answer,) = skill.predict([{"title": "Home", "review": "good"}])
    assert set(answer["probabilities"]) == {"bad", "good"}


def test_a_backbone(place: Place) -> None:
    cfg = place.config(backbone="bert_small")
    assert (cfg.backbone.family, cfg.backbone.pooling) == ("bert", "cls")


def test_the_order_of_the_allocation(place: Place) -> None:
    order = importlib.import_module("my_allocation").order
    low, high = Site("encoder.0.ffn"), Site("encoder.1.ffn")
    groups = [Group(low, 4, 1.0, 8), Group(high, 4, 6.0, 8), Group(high, 8, 4.0, 16)]
    assert order(groups) == [groups[2], groups[1], groups[0]]


# --- keys ---------------------------------------------------------------------------------------

PARTS = {  # a part's file: what chooses it, and what an edit of it makes anew
    "my_attribution.py": ("attribution=activation_power", "attribute"),
    "my_allocation.py": ("prune=top_down", "prune"),
}


def keys(job: Job) -> dict[str, str]:
    return {
        "tune": stage_key(fit_dense, job.dense_arguments),
        "attribute": job.method.key,
        "prune": parts_code(job.cfg.prune.allocation),
        "job": job.key,
    }


def test_an_edit_of_a_part_makes_another_job_and_its_own_stages_anew(place: Place) -> None:
    overrides = [given for given, _ in PARTS.values()]
    plain, before = keys(place.job()), keys(place.job(*overrides))
    for file, (_, stage) in PARTS.items():
        with (place.own / file).open("a") as edited:
            edited.write("\nEDITED = True\n")
        after = keys(place.job(*overrides))
        assert {name for name in before if before[name] != after[name]} == {stage, "job"}
        before = after
    assert keys(place.job()) == plain  # which has no such part


# --- what is refused, in one line ---------------------------------------------------------------

REFUSED = (
    *("prune.allocation=order", "prune.allocation=my_allocation.missing"),
    "prune.allocation=my_attribution.torch",  # no function
    *("attribution._target_=my_attribution.missing", "attribution.options.at=nowhere"),
    *("attribution._target_=my_attribution", "attribution._target_=my_attribution:scores"),
    "attribution._target_=my_attribution.torch",
)


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_no_such_part_is_refused_by_its_key(place: Place, override: str) -> None:
    with pytest.raises(SkipError) as refused:
        prepare(place.config(override))
    assert str(refused.value).startswith(f"{override}: ") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("file", "text", "part", "reason"),
    [
        ("lacking.py", "import no_such_package\n", "lacking.scores", "'no_such_package'"),
        ("broken.py", "def scores(model, batches)\n", "broken.scores", "broken.py"),
        ("raising/__init__.py", "raise RuntimeError('no')\n", "raising.m.scores", ": no"),
        ("none.py", "", "no_such_module.scores", "'no_such_module'"),
        ("alien.py", "def scores(model, batches): ...\n", "alien.scores", None),  # its options
    ],
)
def test_a_method_that_cannot_be_called_is_refused_with_the_reason(
    place: Place, file: str, text: str, part: str, reason: str | None
) -> None:
    (place.own / file).parent.mkdir(exist_ok=True)
    (place.own / file).write_text(text)
    cfg = place.config(f"attribution._target_={part}")
    key = rf"attribution\.options\.\w+=.*{part}" if reason is None else r"attribution\._target_="
    with pytest.raises(SkipError, match=f"^{key}.*{reason or ''}"):
        prepare(cfg)


def test_a_method_may_take_any_option(place: Place) -> None:
    (place.own / "open.py").write_text(
        "def scores(model, batches, **options):\n    return options\n"
    )
    cfg = place.config("attribution=random", "attribution._target_=open.scores")
    cfg.attribution.options = {"power": 2}
    assert method_of(cfg.attribution, 7).value(None, []) == {"power": 2}  # it asks for no seed
    settings = schema.AttributionConfig("skip_exp.attribution.random.scores", options={"seed": 7})
    assert method_of(settings, seed=1).value.keywords == {"seed": 7}  # that of the options wins


def test_scores_that_do_not_fit_are_refused_by_the_key_of_the_method(place: Place) -> None:
    (place.own / "odd.py").write_text("def scores(model, batches):\n    return {}\n")
    override = "attribution._target_=odd.scores"
    with pytest.raises(SkipError, match=rf"^{override}: encoder\.0\."):
        pipeline.run(place.config("attribution=random", override, "attribution.options={}"))
