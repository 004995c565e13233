"""Every key of the configuration counts for the job's key, or is named here as harmless."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skip_exp.config.checks import keys
from skip_exp.config.schema import Config
from skip_exp.config.together import job_config
from skip_exp.errors import SkipError
from skip_exp.phases.build import Start
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from tests.helpers.saved import save_backbone
from tests.helpers.toy import save_toy, toy_job

pytestmark = pytest.mark.property

LEAVES = [one.name for one in keys(Config) if not one.is_group]
PLACES = ("task.files", "task.start", "tune.start", "backbone.path", "data.source", "data.dir")
SHOWN = ("benchmark.", "cache.", "logger.", "sweep.", "output_dir", "trainer.")
HARMLESS = {
    name
    for name in LEAVES
    if name in PLACES or (name.startswith(SHOWN) and name != "trainer.precision")
}

Values = dict[str, Any]
Make = Callable[..., Config]


def describe_changes(root: Path) -> dict[str, Values]:
    """By key: another value of it, and what other keys need then."""
    files = {split: f"{root}/{split}.csv" for split in ("train", "validation")}
    copies = {split: f"{root}/copies/{split}.csv" for split in files}
    several = {"task.metrics": ["f1_micro"], "attribution.options": {"target": "log_odds"}}
    changes: dict[str, Values] = {
        "task.files": {"task.files": copies},
        "task.train": {"task.train": "fit", "task.files": rename(files, train="fit")},
        "task.validation": {
            "task.validation": "test",
            "task.files": rename(files, validation="test"),
        },
        "task.extra": {"task.extra": ["more"], "task.files": files | {"more": files["train"]}},
        "task.kind": {"task.kind": "many_labels"} | several,
        "backbone.path": {"backbone.path": f"{root}/copies/backbone"},
        "backbone.family": {"backbone.family": "roberta", "backbone.path": f"{root}/roberta"},
        "attribution._target_": {
            "attribution._target_": "skip_exp.attribution.magnitude.scores",
            "attribution.options": {},
        },
    }
    others = {
        "task.name": "other",
        "task.hub": {"path": "some/rows"},
        "task.text": ["{text}"],
        "task.label": "class",
        "task.labels": ["bad", "fine"],
        "task.words": ["no", "yes"],
        "task.metrics": ["accuracy"],
        "task.start": "nli-minilm",
        "task.group": "group",
        "backbone.name": "small",
        "backbone.readout": "mlm",
        "backbone.pooling": "cls",
        "prompt.kind": "input",
        "prompt.init": "vocab",
        "tune.train": "prompt",
        "retune.train": "prompt",
        "attribution.options": {"tokens": "max"},
        "prune.within": 1.0,
        "prune.fastest": "batches",
        "prune.sites": ["ffn"],
        "prune.allocation": "uniform",
        "prune.layers": 2,
        "data.source": "local",
        "data.dir": f"{root}/copies",
        "data.train_rows": 50,
        "data.sep": ",",
        "data.encoding": "latin-1",
        "trainer.accelerator": "auto",
        "trainer.precision": "bf16-mixed",
        "logger.name": "csv",
        "logger.project": "mine",
        "logger.entity": "us",
        "logger.group": "group",
        "logger.tags": ["tag"],
        "logger.notes": "notes",
        "cache.dir": None,
        "sweep.id": "sweep",
        "sweep.objective": ["select/pruned"],
        "output_dir": f"{root}/elsewhere",
    }
    return changes | {name: {name: value} for name, value in others.items()}


def rename(files: Mapping[str, str], **names: str) -> dict[str, str]:
    return {names.get(split, split): file for split, file in files.items()}


def change_number(value: Any) -> Any:
    """Another value of a switch or a number."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    assert isinstance(value, float), "a new key needs a value in describe_changes"
    return 0.75 * value + 0.01


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Values]]:
    """A job, and the changes of every key; only that of tune.start is a test of its own."""
    root = tmp_path_factory.mktemp("keys")
    toy = save_toy(root)
    for split in ("train", "validation"):
        header, *rows = (root / f"{split}.csv").read_text().splitlines()
        lines = [f"{header},class,group"]
        for number, row in enumerate(rows):
            lines.append(f"{row},{row[-1]},{number // 2}")
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    save_backbone(root / "roberta", "roberta")
    (root / "copies").mkdir()
    for split in ("train", "validation"):
        shutil.copy(root / f"{split}.csv", root / "copies")
    shutil.copytree(root / "backbone", root / "copies/backbone")
    # Either site can reach the ratio; after prompt_readout re-tuning may train anything.
    cfg = toy_job(toy, root, "run", "prune.ratio=0.2", "tune.train=prompt_readout")
    changes = describe_changes(root)
    for name in LEAVES:
        if name not in changes and name != "tune.start":
            changes[name] = {name: change_number(attrgetter(name)(cfg))}
    return cfg, changes


def changed(cfg: Config, values: Values) -> Config:
    """The configuration with other values, checked as one of the command line is."""
    fields = asdict(cfg)
    for name, value in values.items():
        *groups, last = name.split(".")
        node = fields
        for group in groups:
            node = node[group]
        node[last] = value
    return job_config(fields)


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "tune.start"])
def test_a_key_counts_or_is_harmless(name: str, base: tuple[Config, dict[str, Values]]) -> None:
    cfg, changes = base
    other = changed(cfg, changes[name])
    assert attrgetter(name)(other) != attrgetter(name)(cfg)
    assert (prepare(other).key == prepare(cfg).key) == (name in HARMLESS)


def start_from(job: Job, name: str, content: str) -> Job:
    start = Start(
        name=name, content=content, origin=name, length=4, train="prompt", rank=0, state={}
    )
    settings = replace(job.cfg, tune=replace(job.cfg.tune, start=name))
    return replace(job, cfg=settings, start=start)


def test_of_a_start_its_content_counts(base: tuple[Config, dict[str, Values]]) -> None:
    job = prepare(base[0])
    here, there, edited = (
        start_from(job, *place) for place in (("a", "1"), ("b", "1"), ("a", "2"))
    )
    assert here.key == there.key
    assert len({job.key, here.key, edited.key}) == 3


def list_counting(cfg: Config) -> str:
    """The values of all keys that count, as one text."""
    return repr([attrgetter(name)(cfg) for name in LEAVES if name not in HARMLESS])


@given(names=st.lists(st.sampled_from([n for n in LEAVES if n != "tune.start"]), max_size=4))
def test_jobs_share_a_key_where_nothing_that_counts_differs(
    base: tuple[Config, dict[str, Values]], names: list[str]
) -> None:
    cfg, changes = base
    jobs = {list_counting(cfg): prepare(cfg).key}
    for name in names:
        try:
            cfg = changed(cfg, changes[name])
            key = prepare(cfg).key
        except SkipError:  # values that exclude each other
            assume(False)
        assert jobs.setdefault(list_counting(cfg), key) == key
    assert len({*jobs.values()}) == len(jobs)
