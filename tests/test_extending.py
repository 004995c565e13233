"""Parts of one's own from outside the package: the files of ``examples/extending`` in real jobs."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skip_exp import Skill, pipeline
from skip_exp.cache import versions
from skip_exp.cache.store import entry_name
from skip_exp.config import schema
from skip_exp.errors import SkipError
from skip_exp.job.job import Job
from skip_exp.job.prepare import prepare
from skip_exp.models.families.base import FfnBlock
from skip_exp.models.readouts.base import Encoded
from skip_exp.models.sites import Site, site_sizes
from skip_exp.pruning.allocate import Group
from tests.helpers.tiny import tiny_batch, tiny_model
from tests.helpers.toy import save_toy, toy_job
from tests.helpers.written import ROOT

EXAMPLES = Path("examples/extending")
MODULES = ("my_attribution", "my_allocation", "my_prompt", "my_readout")
PAGE = ROOT / "docs/extending.md"
SHOWN = re.compile(r"^`(examples/\S+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = ["the film was good", "the plot was dull"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


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
        """Result of a whole job, its keep in ``keep`` and its skill's tensors in ``tensors``."""
        cfg = self.config(*overrides, **groups)
        result: dict[str, Any] = dict(pipeline.run(cfg))
        assert result["status"] == "done" and not result["data_is_sample"]
        assert result["ratio"] == 0.5 and 0.42 < result["ratio_reached"] <= 0.5
        tensors = load_file(Path(cfg.output_dir) / "skill/skill.safetensors")
        kept = {name: t.tolist() for name, t in tensors.items() if name.startswith("keep/")}
        return result | {"keep": kept, "tensors": tensors}

    def python(self, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Python in the user's folder; the modules on PYTHONPATH only where ``path`` says so."""
        source = ROOT / "src"
        paths = os.pathsep.join(map(str, [source, *([path] if path else [])]))
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )


def forget() -> None:
    """As a new process: neither the user's modules nor their sources are known."""
    for name in MODULES:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    for cached in (versions.code_version, versions.source_of, versions._imports):
        cached.cache_clear()


@pytest.fixture
def place(tmp_path: Path, toy: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    shutil.copytree(ROOT / EXAMPLES, tmp_path / EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / EXAMPLES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within one second
    forget()
    yield Place(tmp_path, toy)
    forget()


# --- the page -----------------------------------------------------------------------------------


def test_the_page_shows_the_files_themselves() -> None:
    shown = dict(SHOWN.findall(PAGE.read_text(encoding="utf-8")))
    files = [*(ROOT / EXAMPLES).glob("*.py"), *(ROOT / EXAMPLES / "conf").rglob("*.yaml")]
    assert set(shown) == {file.relative_to(ROOT).as_posix() for file in files}
    for name, text in shown.items():
        assert text == (ROOT / name).read_text(encoding="utf-8"), name


# --- each of the six, used in a job -------------------------------------------------------------


def test_a_task(place: Place) -> None:
    result = place.run(task="my_reviews")
    assert (result["task"], result["n_eval"]) == ("my_reviews", 10)
    assert result["data_source"] == f"local:{EXAMPLES}/made_up"
    assert set(result["metrics"]) == {"accuracy", "f1"}
    (answer,) = Skill.load(place.root / "job/skill").predict([{"title": "Home", "review": "good"}])
    assert set(answer["probabilities"]) == {"bad", "good"}


def test_a_backbone(place: Place) -> None:
    cfg = place.config(backbone="bert_small")
    assert (cfg.backbone.family, cfg.backbone.pooling) == ("bert", "cls")
    result = place.run(backbone="bert_small")  # the toy's path stands in for the hub's
    about = json.loads((place.root / "job/skill/skill.json").read_text())
    assert result["backbone"] == about["backbone"]["name"] == "bert_small"
    assert about["backbone"]["pooling"] == "cls"


def test_an_attribution(place: Place) -> None:
    default = place.run()
    result = place.run("attribution=activation_power", f"output_dir={place.root}/other")
    assert result["config"]["attribution"]["_target_"] == "my_attribution.scores"
    assert result["cache"] == {"tune": "hit", "attribution": "miss"}
    assert result["keep"] != default["keep"]


def test_the_scores_of_the_attribution(place: Place) -> None:
    """Against a hook of our own; padding does not count."""
    model, batch = tiny_model("bert"), tiny_batch("bert")
    scores = importlib.import_module("my_attribution").scores(model, [batch], power=2)
    sizes = site_sizes(model.shapes())
    assert {site: tuple(s.shape) for site, s in scores.items()} == sizes
    block = next(b for b in model.blocks() if isinstance(b, FfnBlock))
    seen = []
    handle = block.down.register_forward_pre_hook(lambda _m, x: seen.append(x[0].detach()))
    model(**{name: x for name, x in batch.items() if name != "labels"})
    handle.remove()
    real = batch["attention_mask"].bool()
    expected = seen[0][real].pow(2).sum(0) / len(real)
    torch.testing.assert_close(scores[block.name.site("ffn")], expected)


@pytest.mark.parametrize("steps", [1, 2])
def test_an_allocation(place: Place, steps: int) -> None:
    result = place.run("prune=top_down", f"prune.steps={steps}")
    sizes = {Site(site): kept for site, (kept, _) in result["keep_sizes"].items()}
    upper = [kept for site, kept in sizes.items() if site.sublayer.layer == 1]
    lower = [kept for site, kept in sizes.items() if site.sublayer.layer == 0]
    assert upper == [0, 0] and all(lower)


def test_the_order_of_the_allocation(place: Place) -> None:
    order = importlib.import_module("my_allocation").order
    low, high = Site("encoder.0.ffn"), Site("encoder.1.ffn")
    groups = [Group(low, 4, 1.0, 8), Group(high, 4, 6.0, 8), Group(high, 8, 4.0, 16)]
    assert order(groups) == [groups[2], groups[1], groups[0]]


def test_a_prompt(place: Place) -> None:
    result = place.run(
        "prompt=residual", "prompt.length=4", "tune.epochs=4", "tune.readout_lr=0.02"
    )
    tensors = result["tensors"]
    assert tensors["prompt.embedding"].shape == (4, 24)
    assert tensors["prompt.up.weight"].shape == (24, 16)
    assert tensors["prompt.up.weight"].abs().sum() > 0  # it starts at zero
    assert set(tensors) >= {"prompt.down.weight", "prompt.down.bias", "prompt.up.bias"}


def test_a_prompt_counts_its_tokens(place: Place) -> None:
    why = r"data.max_length=62: .*prompt.length=4 \(my_prompt.MyPrompt\).* at most 60"
    with pytest.raises(SkipError, match=why):
        prepare(place.config("prompt=residual", "prompt.length=4", "data.max_length=62"))


def test_a_readout(place: Place) -> None:
    result = place.run(backbone="minilm_max")
    about = json.loads((place.root / "job/skill/skill.json").read_text())
    assert about["backbone"]["readout"] == "my_readout.MyReadout"
    assert {name for name in result["tensors"] if name.startswith("readout.")} == {
        "readout.linear.weight",
        "readout.linear.bias",
    }


def test_the_readout_takes_the_largest_of_the_text(place: Place) -> None:
    """Neither a virtual token nor padding counts."""
    readout = importlib.import_module("my_readout").MyReadout(2, 2)
    with torch.no_grad():
        readout.linear.weight.copy_(torch.eye(2))
        readout.linear.bias.zero_()
    hidden = torch.tensor([[[9.0, 9.0], [1.0, -3.0], [-2.0, -1.0], [8.0, 8.0]]])
    encoded = Encoded(hidden, torch.tensor([[1, 1, 1, 0]]), virtual=1)
    assert readout(None, None, encoded).tolist() == [[1.0, -1.0]]


# --- as a user types it, and what others make of the skill --------------------------------------

LOAD = "import sys; from skip_exp.commands.predict import main; sys.exit(main())"


@pytest.fixture
def typed(place: Place) -> Place:
    """A job with all parts at once was run by the command line."""
    backbone = next(x for x in place.toy if x.startswith("backbone.path="))
    arguments = ["-m", "skip_exp", "--config-dir", f"{EXAMPLES}/conf", "+task=my_reviews"]
    arguments += ["prompt=residual", "backbone=minilm_max", backbone, "prune=top_down"]
    arguments += ["attribution=activation_power", "hydra.run.dir=job", "prune.round_to=4"]
    arguments += [
        "prompt.length=4",
        "data.max_length=24",
        "benchmark.seq_len=24",
        "tune.epochs=1",
        "retune.epochs=1",
    ]
    arguments += ["logger=none", "benchmark.enabled=false", "trainer=cpu", "trainer.progress=false"]
    done = place.python(*arguments, path=place.own)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.slow
def test_all_at_once_from_the_command_line(typed: Place) -> None:
    result = json.loads((typed.root / "job/result.json").read_text())
    assert result["status"] == "done" and 0.42 < result["ratio_reached"] <= 0.5
    assert result["method"]["allocation"] == "my_allocation.order"

    refused = typed.python("-c", LOAD, "job/skill", TEXTS[0], path=typed.own)
    assert (refused.returncode, refused.stdout) == (2, "")
    why = "prompt.kind=my_prompt.MyPrompt: a part of somebody's own: import my_prompt first"
    assert refused.stderr == f"error: job/skill: {why}, if you trust it\n"
    half = typed.python("-c", f"import my_prompt; {LOAD}", "job/skill", TEXTS[0], path=typed.own)
    assert half.returncode == 2 and "backbone.readout=my_readout.MyReadout" in half.stderr
    trusting = f"import my_prompt, my_readout; {LOAD}"
    told = typed.python("-c", trusting, "job/skill", TEXTS[0], path=typed.own)
    assert told.returncode == 0, told.stderr
    assert set(json.loads(told.stdout)["probabilities"]) == {"bad", "good"}


def test_a_skill_comes_back_as_it_was(place: Place) -> None:
    place.run("prompt=residual", "prompt.length=4", backbone="minilm_max")
    skill = Skill.load(place.root / "job/skill")
    assert type(skill.model.prompt).__name__ == "MyPrompt"
    stored = load_file(place.root / "job/skill/skill.safetensors")
    for name, parameter in skill.model.skill_parameters().items():
        assert torch.equal(parameter, stored[name]), name
    forget()
    with pytest.raises(SkipError, match=r"prompt.kind=.* import my_prompt first"):
        Skill.load(place.root / "job/skill")
    assert not set(MODULES) & set(sys.modules)


@pytest.mark.slow
def test_an_onnx_export_needs_no_class(place: Place) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    from skip_exp import OnnxSkill
    from skip_exp.skill.export.folder import export

    place.run("prompt=residual", "prompt.length=4", backbone="minilm_max")
    skill = Skill.load(place.root / "job/skill")
    export(skill, place.root / "onnx", "onnx")
    forget()
    answers = OnnxSkill.load(place.root / "onnx").predict(TEXTS)
    assert [a["label"] for a in answers] == [a["label"] for a in skill.predict(TEXTS)]


# --- keys ---------------------------------------------------------------------------------------

TUNED = {"tune", "score", "teacher", "hidden"}
PARTS = {  # a part's file: what chooses it, and the stages whose entries it decides
    "my_attribution.py": (["attribution=activation_power"], {"attribute", "probe"}),
    "my_allocation.py": (["prune=top_down"], {"probe"}),
    "my_prompt.py": (["prompt=residual"], TUNED | {"attribute", "probe"}),
    "my_readout.py": (
        ["backbone.readout=my_readout.MyReadout"],
        TUNED | {"attribute", "probe"},
    ),
}


@pytest.mark.parametrize("file", PARTS)
def test_an_edit_of_a_part_makes_another_job(place: Place, file: str) -> None:
    overrides, stages = PARTS[file]
    before = place.job(*overrides)
    for other in MODULES:
        if f"{other}.py" != file:
            (place.own / f"{other}.py").write_text("NOTHING = 0\n")
    unrelated = place.job(*overrides)
    assert (unrelated.job_id, unrelated.keys) == (before.job_id, before.keys)
    with (place.own / file).open("a") as edited:
        edited.write("\nEDITED = True\n")
    after = place.job(*overrides)
    assert after.job_id != before.job_id
    changed = {
        stage
        for stage in before.keys
        if entry_name(stage, before.keys[stage]) != entry_name(stage, after.keys[stage])
    }
    assert changed == stages


def test_without_parts_of_ones_own_their_files_do_not_count(place: Place) -> None:
    before = place.job()
    for name in MODULES:
        (place.own / f"{name}.py").write_text("NOTHING = 0\n")
    assert place.job().job_id == before.job_id


# --- what is refused, in one line ---------------------------------------------------------------

NOT_A_PROMPT = "must be a subclass of models.prompts.base.SoftPrompt"
REFUSED = {
    "prompt.kind=my_readout.MyReadout": NOT_A_PROMPT,
    "prompt.kind=my_allocation.order": NOT_A_PROMPT,
    "prompt.kind=my_prompt.Missing": "cannot be imported: .* no attribute 'Missing'",
    "prompt.kind=no_such_module.MyPrompt": "cannot be imported: No module named 'no_such_module'",
    "prompt.kind=residual": "must be one of input, prefix, none, or module.name of your own",
    "backbone.readout=my_prompt.MyPrompt": "must be a subclass of models.readouts.base.Readout",
    "backbone.readout=no_such_module.R": "cannot be imported: No module named 'no_such_module'",
    "backbone.readout=max": "must be one of head, mlm, seq2seq, or module.name of your own",
    "prune.allocation=order": "must be one of global, .*, latency, or module.name of your own",
    "prune.allocation=my_allocation.missing": "cannot be imported: .* no attribute 'missing'",
    "prune.allocation=my_prompt.WIDTH": r"must be a function \(groups\) -> groups",
    "attribution._target_=my_attribution.missing": "cannot be imported: ",
    "attribution._target_=my_allocation.order": "has no such option",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_no_such_part_is_refused_by_its_key(place: Place, override: str) -> None:
    with pytest.raises(SkipError) as refused:
        prepare(place.config(override))
    told = str(refused.value)
    assert "\n" not in told and re.search(REFUSED[override], told), told
    key = "attribution." if "no such option" in told else f"{override}: "
    assert told.startswith(key)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("scores.pop('encoder.0.ffn')", "encoder.0.ffn: found nothing, needed a tensor [20]"),
        (
            "scores['encoder.0.ffn'] = scores['encoder.0.ffn'][:3]",
            "encoder.0.ffn: found scores [3], needed [20]",
        ),
        (
            "scores = {site: x * 0 for site, x in scores.items()}",
            "all 142 scores are 0: they do not tell what the task needs",
        ),
    ],
)
def test_scores_that_do_not_fit_the_model_are_refused(
    place: Place, change: str, found: str
) -> None:
    (place.own / "odd.py").write_text(
        "from skip_exp.attribution import magnitude\n\n\n"
        "def scores(model, batches):\n"
        "    scores = magnitude.scores(model, batches)\n"
        f"    {change}\n"
        "    return scores\n"
    )
    overrides = ["attribution._target_=odd.scores", "attribution.options={}"]
    overrides += [f"attribution.{key}=null" for key in ("tokens", "sign", "target")]
    with pytest.raises(SkipError) as refused:
        pipeline.run(place.config("attribution=random", *overrides))
    sys.modules.pop("odd")
    assert str(refused.value) == f"attribution._target_=odd.scores: {found}"
