"""What the artifacts of a run are called and hold."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skip_exp.logger import artifacts
from tests.helpers.fakes import result


@pytest.fixture(autouse=True)
def staged(tmp_path: Path) -> Iterator[None]:
    with artifacts.staged(tmp_path):
        yield


def test_data_tell_what_they_are() -> None:
    stored = result(data_source="local:/home/me/glue", data_is_sample=False)
    artifact = artifacts.data(stored, "f1")
    assert (artifact.name, artifact.type) == (f"data-{stored['task']}", "dataset")
    about = {"task": stored["task"], "source": "local", "is_sample": False, "fingerprint": "f1"}
    assert artifact.metadata == about
    (entry,) = artifact.manifest.entries.values()
    assert json.loads(Path(str(entry.local_path)).read_text()) == about


def test_one_version_for_each_content() -> None:
    here = result(data_source="local:/home/me/glue")
    elsewhere = result(data_source="local:/scratch/glue", seed=2)
    assert artifacts.data(here, "f1").digest == artifacts.data(elsewhere, "f1").digest
    assert artifacts.data(here, "f1").digest != artifacts.data(here, "f2").digest
    assert artifacts.backbone(here, "h1").digest == artifacts.backbone(elsewhere, "h1").digest
    assert artifacts.backbone(here, "h1").digest != artifacts.backbone(here, "h2").digest


def test_generated_rows_are_named_so() -> None:
    artifact = artifacts.data(result(data_source="embedded:snli_pairs", data_is_sample=True), "f1")
    assert artifact.name.endswith("-stand-in")
    assert (
        artifact.metadata["is_sample"] is True
        and artifact.metadata["source"] == "embedded:snli_pairs"
    )


def test_names_are_of_letters_that_wandb_takes() -> None:
    artifact = artifacts.backbone(result(backbone="org/größe " + "x" * 200), "h1")
    assert artifact.name.startswith("backbone-org_gr__e_xxx") and len(artifact.name) == 128


def test_what_a_user_set_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "mine"))
    with artifacts.staged(tmp_path / "job"):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
