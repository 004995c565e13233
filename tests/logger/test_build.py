"""W&B: a whole offline run, read back with W&B's own tool; other loggers, and the picture."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import wandb

from skip_exp import results
from skip_exp.callbacks.fit import mark_kept, replay
from skip_exp.logger import build
from skip_exp.skill.record import RECORD, TENSORS
from tests.conftest import Cli
from tests.helpers.fakes import result
from tests.helpers.toy import composed

KEEP = {"encoder.0.ffn": [8, 16], "encoder.0.self.heads": [3, 4]}


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))


def job(folder: Path, *overrides: str) -> Any:
    return composed("+task=rte", f"output_dir={folder}", *overrides)


def read_back(folder: Path, *flags: str) -> list[dict[str, Any]]:
    """Records of the offline run in a folder, or its ``--summary``."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    inspect = [wandb.util.get_core_path(), "leet", "inspect", "--no-observability"]  # `wandb leet`
    command = [*inspect, *flags, "--json", "--run-file", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(told)] if flags else [json.loads(line) for line in told.splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    """The summary of a closed run, whose end W&B's own process may write a moment later."""
    deadline = time.monotonic() + 30
    (found,) = read_back(folder, "--summary")
    while found["state"] == "unknown" and time.monotonic() < deadline:
        time.sleep(0.1)
        (found,) = read_back(folder, "--summary")
    return found


class Line(L.LightningModule):
    """y = w x, fitted to y = 0; logs as the job does, under its phase."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase = phase
        self.w = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        loss = (self.w * batch).square().mean()
        self.log(f"{self.phase}/train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def waiting(folder: Path) -> set[str]:
    """The content of the files that are to be uploaded."""
    return {path.read_text() for path in folder.glob("data/artifacts/staging/*")}


def fit(loggers: Any, phase: str) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=loggers,
        max_epochs=2,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(phase), torch.utils.data.DataLoader(torch.ones(3, 1)))


def show(loggers: Any, folder: Path, train: str = "lora", **fields: Any) -> dict[str, Any]:
    """Show a finished job, whose skill is two files, and what its result holds."""
    (folder / "skill").mkdir(parents=True)
    for name in (TENSORS, RECORD):
        (folder / "skill" / name).write_text(name)
    build.save_picture(KEEP, folder / results.PICTURE)
    config = {"tune": {"train": "prompt_readout"}, "retune": {"train": train}}
    fields |= {"keep_sizes": KEEP, "data_source": "embedded:banking77", "config": config}
    stored = dict(result(skill="skill", **fields))
    build.mirror(loggers, stored, folder)
    return stored


def test_a_whole_offline_run_reads_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "skip_exp")
    overrides = ["seed=3", "prune.ratio=0.3", "logger.group=sweep-1", "logger.tags=[mine]"]
    overrides.append("logger.notes='to try it'")
    with build.open_loggers(job(tmp_path, *overrides)) as loggers:
        run = wandb.run
        assert run is not None
        assert run.group == "sweep-1"
        assert run.tags == ("rte", "minilm", "prefix", "activation_gradient", "mine")
        rows = [
            {"phase": "tune", "step": 4 * (epoch + 1), "select_accuracy": score, "select_loss": 1.0}
            for epoch, score in enumerate((0.5, 0.9, 0.7))
        ]
        replay(loggers, [*rows, mark_kept("tune", rows, 1)])
        fit(loggers, "retune")
        replay(loggers, [mark_kept("retune", [], -1)])
        stored = show(loggers, tmp_path, latency={"speedup": 1.5}, data_is_sample=True)
        assert run.notes == "to try it"
        assert "stand-in" in run.tags
    assert wandb.run is None
    assert caplog.text.count("W&B") == 1

    found = summary(tmp_path)
    assert (found["state"], found["exit_code"]) == ("finished", 0)
    assert (found["name"], found["project"]) == ("rte-minilm-0.3-3", "skip_exp")
    assert found["config"]["prune"]["ratio"] == 0.3
    assert found["config"]["task"]["labels"] == ["entailment", "not_entailment"]
    wanted = results.flatten(stored)
    assert {"status", "metric/final", "params/block_pruned", "latency/speedup"} <= wanted.keys()
    told = found["summary"]
    assert {key: told[key] for key in wanted} == wanted
    assert told["keep"]["_type"] == "image-file"
    # The summary is of the kept epoch: here the second, and the state before the first.
    assert (told["tune/kept_epoch"], told["tune/epoch"], told["tune/step"]) == (1, 1, 7)
    assert (told["tune/select_accuracy"], told["tune/select_loss"]) == (0.9, 1.0)
    assert (told["retune/kept_epoch"], told["retune/step"]) == (-1, 0)
    assert "retune/train_loss" not in told
    # Each phase has steps of its own.
    records = read_back(tmp_path)
    logged = [each["history"]["item"] for each in records if each.get("type") == "history"]
    curve = [
        (row["tune/step"], row["tune/select_accuracy"]) for row in logged if "tune/step" in row
    ]
    assert curve == [(3, 0.5), (7, 0.9), (11, 0.7)]  # as in a fit, whose steps count from 0
    assert [row["retune/step"] for row in logged if "retune/train_loss" in row] == [*range(6)]
    assert not any("trainer/global_step" in row for row in logged)
    assert waiting(tmp_path) == {"skill.json", "skill.safetensors"}


def test_a_whole_model_is_not_uploaded(tmp_path: Path) -> None:
    with build.open_loggers(job(tmp_path)) as loggers:
        show(loggers, tmp_path, train="full")
    assert summary(tmp_path)["summary"]["keep"]["_type"] == "image-file"
    assert not waiting(tmp_path)


def test_stand_in_rows_are_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(wandb.Run, "log_artifact", lambda _, artifact: logged.append(artifact))
    given = {"backbone": "org/größe " + "x" * 200, "task": "rte"}
    with build.open_loggers(job(tmp_path / "own")) as loggers:
        show(loggers, tmp_path / "own", **given)
    sample = {"task": "rte", "backbone": "tiny", "data_is_sample": True}
    with build.open_loggers(job(tmp_path / "other")) as loggers:
        show(loggers, tmp_path / "other", **sample)
    first, second = logged
    # Letters that W&B takes, and no more of them.
    assert first.name.startswith("skill-rte-org_gr__e_xxx") and len(first.name) == 128
    assert second.name == "skill-rte-tiny-stand-in"


def test_trouble_with_wandb_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise wandb.errors.CommError("no room\nleft")

    with build.open_loggers(job(tmp_path)) as loggers:
        with monkeypatch.context() as gone:  # W&B's process was killed
            gone.setattr(wandb.Run, "log", refuse)
            fit(loggers, "tune")
        assert caplog.text.count(": no room") == 1  # not once for every row
        monkeypatch.setattr(wandb.Run, "log_artifact", refuse)
        show(loggers, tmp_path)
        assert caplog.text.count(": no room") == 2
    assert summary(tmp_path)["summary"]["keep"]["_type"] == "image-file"  # the others are there


def test_jobs_that_fail_or_are_interrupted_are_failed_runs(cli: Cli, tmp_path: Path) -> None:
    def ends(cfg: Any) -> None:
        with build.open_loggers(cfg):
            raise RuntimeError("loss is NaN") if cfg.seed == 1 else KeyboardInterrupt

    assert cli("+task=rte", "seed=1,2", "hydra.sweep.dir=all", "-m", run=ends).code == 130
    assert wandb.run is None
    errors = ("RuntimeError: loss is NaN", "interrupted")
    for seed, error in enumerate(errors, start=1):
        (folder,) = (tmp_path / "all").glob(f"{seed - 1}-*")
        found = summary(folder)
        assert found["name"] == f"rte-minilm-0.5-{seed}"
        assert (found["state"], found["exit_code"]) == ("failed", 1)
        assert (found["summary"]["status"], found["summary"]["error"]) == ("failed", error)


def test_curves_are_a_file(tmp_path: Path) -> None:
    with build.open_loggers(job(tmp_path, "logger=none")) as loggers:
        assert loggers == []
    with build.open_loggers(job(tmp_path, "logger=csv")) as loggers:
        replay(loggers, [{"phase": "tune", "step": 4, "select_accuracy": 0.5}])
        fit(loggers, "retune")
    lines = (tmp_path / "csv/metrics.csv").read_text().splitlines()
    assert "tune/select_accuracy" in lines[0] and "retune/train_loss" in lines[0]
    assert len(lines) == 1 + 1 + 6


SITES = {
    "encoder.0.ffn": [8, 16],
    "encoder.0.self.heads": [3, 4],
    "encoder.1.ffn": [0, 16],
    "encoder.1.self.heads": [4, 4],
    "decoder.0.cross.heads": [1, 4],
}


def test_the_picture_has_a_cell_per_site() -> None:
    axes = build.draw_kept(SITES).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "decoder cross heads",
        "encoder ffn",
        "encoder self heads",
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "3", "4", "8"]
    shares = axes.images[0].get_array()
    assert shares is not None
    assert shares[1].tolist() == [0.5, 0.0]
    assert shares[2].tolist() == [0.75, 1.0]
