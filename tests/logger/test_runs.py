"""Which mode a W&B run is opened in, and what it is filed under."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from skip_exp.config import schema
from skip_exp.logger import runs
from tests.helpers.toy import composed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, which is the working directory, without keys and settings of W&B's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path


def job(*overrides: str) -> schema.Config:
    return composed("+task=rte", "output_dir=here", *overrides)


# --- mode and project -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "has_key", "expected"),
    [
        *(("online", True, "online"), ("online", False, "offline")),
        *(("offline", True, "offline"), ("disabled", False, "disabled")),
    ],
)
def test_the_mode_is_what_the_user_set_and_online_only_with_a_key(
    monkeypatch: pytest.MonkeyPatch, theirs: str, has_key: bool, expected: str
) -> None:
    settings = SimpleNamespace(settings=SimpleNamespace(mode=theirs))
    monkeypatch.setattr(wandb, "setup", lambda: settings)
    monkeypatch.setattr(wandb, "login", lambda **_: has_key)
    assert runs.find_mode() == expected


def test_the_project_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert (runs.find_project(None), runs.find_project("ours")) == ("theirs", "ours")
    run = runs.open_run(job(f"task.name={'x' * 100}"))
    runs.close(run)
    assert run.project == "theirs"
    assert run.tags and run.tags[0] == "x" * 64  # as long as W&B takes


# --- runs -------------------------------------------------------------------------------------


def test_a_run_of_the_callers_own_goes_on(tmp_path: Path) -> None:
    with wandb.init(project="own", dir=tmp_path, mode="offline") as own:
        run = runs.open_run(job())
        assert run.id != own.id and run.config["seed"] == 1
        runs.close(run, "RuntimeError: loss is NaN")
        assert wandb.run is own
        own.log({"score": 1})


def test_a_killed_job_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    note, ids = tmp_path / "key.run", []
    for _ in range(2):
        run = runs.open_run(job(), note)
        ids.append(run.id)
        runs.close(run, "interrupted")
    assert ids == [note.read_text()] * 2
    assert runs.find_id(None) is None
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")  # as an agent of a sweep
    assert runs.find_id(note) is None


def test_a_run_that_cannot_go_online_takes_another_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(**options: Any) -> Any:
        given.append(options["id"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("timed out")
        return real(**options)

    given: list[str | None] = []
    real = wandb.init
    monkeypatch.setattr(wandb, "init", start)
    monkeypatch.setattr(runs, "find_mode", lambda: "online")
    run = runs.open_run(job(), tmp_path / "key.run")
    assert run.offline
    runs.close(run, "interrupted")
    first, second = given
    assert first and second is None
