"""Which mode a W&B run is opened in, what it is filed under, and its artifacts."""

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import wandb

from skip_exp.config import schema
from skip_exp.errors import ConfigError
from skip_exp.logger import runs
from tests.helpers.fakes import result
from tests.helpers.toy import composed

KEY = "0" * 40


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, which is the working directory, without keys and settings of W&B's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("NETRC", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def job(*overrides: str) -> schema.Config:
    return composed("+task=rte", "output_dir=here", *overrides)


def write_settings(line: str) -> None:
    """As `wandb offline` and the like do."""
    Path("wandb").mkdir(exist_ok=True)
    Path("wandb/settings").write_text(f"[default]\n{line}\n")


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "settings"])
def test_credentials_in_environment_and_settings(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert not runs.has_key()
    if name == "settings":
        write_settings(f"api_key = {KEY}")
    else:
        monkeypatch.setenv(name, KEY)
    assert runs.has_key()


@pytest.mark.parametrize("name", [".netrc", "_netrc", "named"])
def test_a_key_in_the_netrc_file(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "named":
        monkeypatch.setenv("NETRC", str(home / name))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.mine:8080")
    entry = f"machine wandb.mine:8080 login user password {KEY}\n"
    (home / name).write_text(entry.replace("machine ", "machine other."))
    assert not runs.has_key()
    (home / name).write_text(entry)
    assert runs.has_key()


@pytest.mark.parametrize("content", [b"machine\nnonsense here", b"\xff\xfe\x00"])
def test_an_unreadable_netrc_file_is_no_key(home: Path, content: bytes) -> None:
    (home / ".netrc").write_bytes(content)
    assert not runs.has_key()


# --- mode and project -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "environment", "settings", "key", "expected"),
    [
        ("auto", None, "", None, "offline"),
        ("auto", None, "", KEY, "online"),
        ("auto", None, "mode = offline", KEY, "offline"),
        ("auto", None, "mode = disabled", KEY, "disabled"),
        ("auto", "disabled", "mode = offline", KEY, "disabled"),
        ("offline", "online", "", KEY, "offline"),
    ],
)
def test_auto_is_what_the_user_set_and_online_only_with_a_key(
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    environment: str | None,
    settings: str,
    key: str | None,
    expected: str,
) -> None:
    write_settings(settings)
    for name, value in (("WANDB_MODE", environment), ("WANDB_API_KEY", key)):
        if value:
            monkeypatch.setenv(name, value)
    assert runs.mode_of(mode) == expected


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("logger.mode=online", "logger.mode", "online"),
        ("logger.mode=auto", "WANDB_MODE", "online"),
        ("logger.mode=auto", "WANDB_MODE", "bogus"),
        ("logger.mode=offline", "WANDB_PROJECT", "team/mine"),
    ],
)
def test_a_refusal_names_where_the_value_is_from(
    monkeypatch: pytest.MonkeyPatch, override: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}={value}: "):
        runs.open_run(job(override))


def test_the_project_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert (runs.project_of(None), runs.project_of("ours")) == ("theirs", "ours")
    run = runs.open_run(job(f"task.name={'x' * 100}"))
    runs.close()
    assert run.project == "theirs"
    assert run.tags and run.tags[0] == "x" * 64  # as long as W&B takes


# --- runs -------------------------------------------------------------------------------------


def test_a_run_of_the_callers_own_goes_on(tmp_path: Path) -> None:
    with wandb.init(project="own", dir=tmp_path, mode="offline") as own:
        run = runs.open_run(job())
        assert run.id != own.id and run.config["seed"] == 1
        runs.close("RuntimeError: loss is NaN")
        assert wandb.run is own
        own.log({"score": 1})


def test_a_killed_job_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note, ids = tmp_path / "key.run", []
    for _ in range(2):
        ids.append(runs.open_run(job("logger.mode=offline"), note).id)
        runs.close("interrupted")
    assert ids == [note.read_text()] * 2
    assert runs.find_id(None) is None and runs.find_id(tmp_path / "none/key.run") is None
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
    monkeypatch.setattr(runs, "_is_gone", False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert runs.open_run(job(), tmp_path / "key.run").offline
    runs.close("interrupted")
    first, second = given
    assert first and second is None


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


# --- artifacts --------------------------------------------------------------------------------


def logged(folder: Path, fingerprint: str = "f", content_hash: str = "h", **fields: Any) -> Any:
    """The skill, data and backbone artifacts of a finished job, logged to an online run."""
    (folder / "skill").mkdir(exist_ok=True)
    (folder / "skill/skill.json").write_text("{}")
    run = MagicMock(offline=False)
    config = {phase: {"train": "lora"} for phase in ("tune", "retune")}
    hashes = {"fingerprint": fingerprint, "content_hash": content_hash}
    with runs.stage_uploads(folder):
        found = result(skill="skill", config=config, **fields)
        runs.log_artifacts(run, found, folder, hashes)
    calls = [*run.log_artifact.call_args_list, *run.use_artifact.call_args_list]
    return [call.args[0] for call in calls]


def test_inputs_tell_what_they_are(tmp_path: Path) -> None:
    local = {"data_source": "local:/home/me/glue", "data_is_sample": False}
    _, data, backbone = logged(tmp_path, task="rte", backbone="org/größe " + "x" * 200, **local)
    about = {"task": "rte", "source": "local", "is_sample": False, "fingerprint": "f"}
    assert (data.name, data.type, data.metadata) == ("data-rte", "dataset", about)
    (entry,) = data.manifest.entries.values()
    assert json.loads(Path(str(entry.local_path)).read_text()) == about
    # Letters that W&B takes, and no more of them.
    assert backbone.name.startswith("backbone-org_gr__e_xxx") and len(backbone.name) == 128


def test_one_version_for_each_content(tmp_path: Path) -> None:
    here = logged(tmp_path, data_source="local:/home/me/glue")
    elsewhere = logged(tmp_path, data_source="local:/scratch/glue", seed=2)
    other = logged(tmp_path, "f2", "h2")
    for artifact, same, changed in list(zip(here, elsewhere, other, strict=True))[1:]:
        assert artifact.digest == same.digest != changed.digest


def test_stand_in_rows_are_named_so(tmp_path: Path) -> None:
    sample = {"data_source": "embedded:snli_pairs", "data_is_sample": True}
    skill, data, _ = logged(tmp_path, **sample)
    assert skill.name.endswith("-stand-in") and data.name.endswith("-stand-in")
    assert (data.metadata["is_sample"], data.metadata["source"]) == (True, "embedded:snli_pairs")


def test_uploads_are_staged_where_a_user_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "mine"))
    with runs.stage_uploads(tmp_path / "job"):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "mine")
