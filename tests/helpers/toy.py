"""Whole small jobs on a tiny random BERT and a task of two adjectives, and what they must leave."""

import hashlib
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from safetensors import safe_open

from skip_exp import results
from skip_exp.cache.store import read_entry
from skip_exp.config import schema as config
from skip_exp.config import together
from tests.helpers.saved import save_backbone

SMALL = (  # of any job on a tiny backbone: as many epochs as are asked for, no more
    *("tune.min_steps=0", "retune.min_steps=0", "retune.budget=0"),
    *("data.max_length=12", "prompt.length=4", "prune.round_to=4"),
    *("benchmark.repeats=2", "benchmark.batch=2", "benchmark.seq_len=8"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.progress=false"),
)


def save_toy(folder: Path) -> list[str]:
    """Write backbone and task; the overrides of a job on them: is the adjective a good one?

    Texts of equal words differ in spaces, because equal texts stay on one side of a split.
    """
    backbone = save_backbone(folder / "backbone", "bert")
    rng = random.Random(0)
    for split, rows in (("train", 400), ("validation", 100)):
        lines = ["text,label"]
        for row in range(rows):
            label = rng.randrange(2)
            adjective = rng.choice((("bad", "dull", "long"), ("good", "warm", "funny"))[label])
            lines.append(f"the {rng.choice(('film', 'plot'))} was {adjective}{' ' * row},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return [
        "task.name=adjectives",
        *(f"+task.files.{split}={folder}/{split}.csv" for split in ("train", "validation")),
        "task.text=[text]",
        "task.labels=[bad,good]",
        "task.metrics=[accuracy,f1]",
        "backbone.name=tiny",
        f"backbone.path={backbone}",
        "attribution.samples=64",
        *SMALL,
    ]


def quick_settings(folder: Path) -> list[str]:
    """The overrides of a quick job on a tiny backbone in ``folder``; its rows are given."""
    backbone = save_backbone(folder, "bert")
    own = ["backbone.name=tiny", f"backbone.path={backbone}", "attribution.samples=64"]
    return [*own, *SMALL, "tune.epochs=1", "retune.epochs=1"]


def toy_job(toy: list[str], root: Path, folder: str, *overrides: str) -> config.Config:
    """Configuration of a job of a second in ``root/folder``, its cache in ``root/cache``."""
    own = [f"cache.dir={root}/cache", f"output_dir={root / folder}", "logger=none"]
    own += ["tune.epochs=1", "retune.epochs=1", "retune.copies=0", "benchmark.enabled=false"]
    return composed(*toy, *own, *overrides)


def composed(*overrides: str) -> config.Config:
    """As the command line would have it, but quicker: see :func:`untyped`."""
    return together.job_config(untyped(*overrides))


def untyped(*overrides: str) -> DictConfig:
    """As Hydra composes it; groups are composed once for all jobs."""
    parsed = OverridesParser.create().parse_overrides([*overrides])
    groups = [each for each in parsed if _is_composed(each.key_or_group)]
    found = _composed(tuple(each.input_line for each in groups)).copy()
    values = [each for each in parsed if each not in groups]
    ConfigLoaderImpl._apply_overrides_to_config(values, found)
    return found


def _is_composed(key: str) -> bool:
    return (config.conf_dir() / key).is_dir() or key == "hydra.searchpath"


@cache
def _composed(groups: tuple[str, ...]) -> DictConfig:
    config.register()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        return compose("config", [*groups])


def rarely(*cases: Any) -> list[Any]:
    """Parameters that run with the slow tests: whole jobs, of which the others see most."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


def numbers(folder: Path) -> dict[str, Any]:
    """Of every job of a sweep: what must not depend on how often it was killed."""
    found = {}
    for result in results.load(folder):
        assert result["status"] == "done"
        kept = {key: result[key] for key in ("metric", "metrics", "select", "params", "keep_sizes")}
        skill = Path(result["path"]).parent / result["skill"] / "skill.safetensors"
        kept["skill"] = hashlib.sha256(skill.read_bytes()).hexdigest()
        found[Path(result["path"]).parent.name] = kept
    return found


def check_files(*folders: Path) -> None:
    """Nothing half-written: no temporary file, every JSON and safetensors file can be read."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in paths if path.suffix == ".tmp"]
    for path in paths:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                is_entry = "json" in (file.metadata() or {})  # it may hold numbers alone
                assert read_entry(path) if is_entry else file.keys()
