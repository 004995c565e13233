"""Which mode a W&B run is opened in, and what it is filed under."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest
import wandb

from skip_exp.config import schema
from skip_exp.errors import ConfigError
from skip_exp.logger import key, runs
from tests.helpers.toy import composed


@pytest.mark.parametrize(
    ("mode", "environment", "has_key", "expected"),
    [
        ("auto", None, False, "offline"),
        ("auto", None, True, "online"),
        ("auto", "disabled", True, "disabled"),
        ("offline", None, True, "offline"),
    ],
)
def test_auto_is_online_only_with_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, environment: str | None,
    has_key: bool, expected: str,
) -> None:  # fmt: skip
    opened: list[str] = []
    no_settings(monkeypatch, tmp_path)
    run = MagicMock(offline=False, disabled=True)
    monkeypatch.delenv("WANDB_MODE")
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    monkeypatch.setattr(key, "has_key", lambda: has_key)
    monkeypatch.setattr(wandb, "init", lambda mode, **_: opened.append(mode) or run)
    runs.open_run(job("logger.mode=" + mode, f"output_dir={tmp_path}"))
    assert opened == [expected]


def test_online_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key, "has_key", lambda: False)
    with pytest.raises(ConfigError, match=r"^logger\.mode=online: "):
        runs.open_run(job("logger.mode=online"))


@pytest.mark.parametrize("mode", ["bogus", "online"])
def test_a_mode_from_the_environment_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(key, "has_key", lambda: False)
    with pytest.raises(ConfigError, match=f"^WANDB_MODE={mode}: "):
        runs.open_run(job())


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_offline_and_disabled_are_obeyed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(key, "has_key", lambda: True)
    no_settings(monkeypatch, tmp_path)
    (tmp_path / "wandb").mkdir()
    assert runs.mode_of("auto") == "online"
    (tmp_path / "wandb/settings").write_text(f"[default]\nmode = {mode}\n")  # what it writes
    assert runs.mode_of("auto") == mode


@pytest.mark.parametrize(("given", "project"), [([], "theirs"), (["logger.project=ours"], "ours")])
def test_the_project_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: list[str], project: str
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    run = runs.open_run(job(*given, f"output_dir={tmp_path}"))
    runs.close()
    assert run.project == project


def test_a_bad_project_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "team/mine")
    with pytest.raises(ConfigError, match=r"^WANDB_PROJECT=team/mine: "):
        runs.open_run(job())


def test_a_run_of_the_callers_own_goes_on(tmp_path: Path) -> None:
    with wandb.init(project="own", dir=tmp_path) as own:
        run = runs.open_run(job(f"output_dir={tmp_path}"))
        assert run.id != own.id and run.config["seed"] == 1
        runs.close("RuntimeError: loss is NaN")
        assert wandb.run is own
        own.log({"score": 1})


@pytest.mark.parametrize(
    ("override", "job_type"),
    [
        ("prune.ratio=0.5", "prune"),
        ("prune.target_speedup=2", "prune"),
        ("prune.ratio=0", "dense_continued"),
        ("experiment=readout", "baseline"),
        ("experiment=finetune", "baseline"),
        ("experiment=compress", "prune"),
    ],
)
def test_job_type(override: str, job_type: str) -> None:
    assert runs.job_type(job(override)) == job_type


def test_tags_are_as_long_as_wandb_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, list[str]] = {}
    run = MagicMock(offline=False, disabled=True)
    monkeypatch.setattr(wandb, "init", lambda **options: given.update(options) or run)
    runs.open_run(job(f"task.name={'x' * 100}", f"output_dir={tmp_path}"))
    assert given["tags"][0] == "x" * 64
    wandb.Settings(run_tags=given["tags"])  # W&B's own check


def no_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """W&B's settings of this user and folder are not read."""
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "config"))
    monkeypatch.chdir(folder)


def job(*overrides: str) -> schema.Config:
    return composed("+task=rte", "output_dir=here", *overrides)
