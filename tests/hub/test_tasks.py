"""Every task of ``conf/task`` is read from a hub that has it in its published schema."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import conf_dir, to_object
from tests.helpers.hub import serving
from tests.helpers.published import OTHER, TABLES, TRAIN

TASKS = {path.stem: path for path in sorted((conf_dir() / "task").glob("*.yaml"))}
# In a process of its own: the hub clients read their settings when they are imported.
READ = """
import json, re, sys
from omegaconf import OmegaConf
from skip_exp.data.sources import load_rows
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.config.groups import TaskConfig

found = {}
for path in sys.argv[1:]:
    spec = to_object(OmegaConf.load(path), TaskConfig)
    rows = load_rows(spec, DataConfig(source="hub"))
    train = [*rows.train, *rows.select]
    train.sort(key=lambda row: int(re.search(r"(\\d+): ", row["texts"][0])[1]))
    splits = {spec.train: train, spec.validation: rows.validation, **rows.extra}
    found[spec.name] = {"source": rows.source, "splits": splits}
print(json.dumps(found))
"""


def spec(task: str) -> TaskConfig:
    return to_object(OmegaConf.load(TASKS[task]), TaskConfig)


@pytest.fixture(scope="module")
def read(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every task was read as, in one process and from an empty cache."""
    with serving(tables) as hub:
        done = subprocess.run(
            [sys.executable, "-c", READ, *map(str, TASKS.values())],
            env=hub.environment(tmp_path_factory.mktemp("home")),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Generating" not in done.stderr  # bars are for terminals
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_task_is_published() -> None:
    assert TASKS.keys() == TABLES.keys()


@pytest.mark.parametrize("task", TASKS)
def test_the_labels_are_the_published_ones_in_their_order(task: str) -> None:
    assert spec(task).labels == TABLES[task].labels.split("|")


@pytest.mark.parametrize("task", TASKS)
def test_rows_texts_and_labels(read: dict[str, Any], task: str) -> None:
    described, table = spec(task), TABLES[task]
    assert read[task]["source"] == "hub:" + "/".join(described.hub.values())
    sizes = {name: len(split) for name, split in read[task]["splits"].items()}
    others = described.splits[1:]
    assert sizes == {described.train: TRAIN} | dict.fromkeys(others, OTHER)
    for name, split in read[task]["splits"].items():
        assert table.splits[name], f"{name} has no labels"
        assert [row["label"] for row in split] == [
            i % len(described.labels) for i in range(sizes[name])
        ]
        for i, label in ((1, 1), (0, 0)):
            ending = f"{name} {i}: a {described.labels[label]} one"
            expected = [
                f"word {ending}: {column} {ending}" if task == "wic" else f"{column} {ending}"
                for column in (TEXTS.get(task) or ["sentence1", "sentence2"])
            ]
            assert split[i]["texts"] == expected


TEXTS = {  # the rest are sentence1 and sentence2
    "cola": ["sentence"],
    "sst2": ["sentence"],
    "imdb": ["text"],
    "banking77": ["text"],
    "ag_news": ["text"],
    "qqp": ["question1", "question2"],
    "mnli": ["premise", "hypothesis"],
    "cb": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
    "boolq": ["question", "passage"],
}
