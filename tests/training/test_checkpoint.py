"""A fit that was killed goes on where it was, and ends bit by bit as one that was not."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import psutil
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from skip_exp import results
from skip_exp.callbacks import fit as saving
from skip_exp.callbacks.fit import Curves
from skip_exp.config.groups import RetuneConfig, TrainConfig, TuneConfig
from skip_exp.data.module import TextDataModule
from skip_exp.models.trained import State, train_only, trainable_state
from skip_exp.phases.fit import fit
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.training.module import PromptTuner
from tests.helpers.tiny import tiny_model
from tests.helpers.toy import save_toy, toy_job

EPOCHS = 3


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short it is."""
    monkeypatch.setattr(saving, "FIRST", 0.0)
    monkeypatch.setattr(saving, "SHARE", 1e9)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("toy")
    return prepare(
        toy_job(
            save_toy(root),
            root,
            "run",
            "tune.train=prompt",
            "retune.copies=2",
            "data.train_rows=80",
        )
    )


def run(
    job: Job, settings: TrainConfig, folder: Path, distill: float = 0.0
) -> tuple[Any, Curves, State]:
    """A fit with its checkpoint and its metrics.csv in ``folder``."""
    model = job.new_model().copy()
    train_only(model, settings.train, 2, 1)
    rows = TextDataModule(job.data, settings.batch, 1)
    if distill:
        texts = job.student_rows.value
        teacher = torch.randn(len(texts), 2, generator=torch.Generator().manual_seed(1))
        rows = TextDataModule(job.data, 32, 1, teacher=teacher, rows=texts, versions=3)
    log = CSVLogger(folder, name=None, version="csv")
    last, curves = fit(
        replace(job.trainer, progress=True),
        [log],
        model,
        rows,
        settings,
        EPOCHS,
        1,
        distill,
        folder / "fit.ckpt",
    )
    return last, curves, trainable_state(model)


def kill_in(step: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fits end in this step; returns the steps that were made, by number."""
    made: list[int] = []
    original = PromptTuner.training_step

    def training_step(self: PromptTuner, batch: dict[str, Tensor], index: int) -> Tensor:
        if len(made) == step:
            raise Killed
        made.append(self.global_step)
        return original(self, batch, index)

    monkeypatch.setattr(PromptTuner, "training_step", training_step)
    return made


CASES = [
    (TuneConfig(epochs=EPOCHS, train="lora", lr=0.01, dropout=True), 0.0),
    (TuneConfig(epochs=EPOCHS, train="full", full_lr=1e-3, dropout=True), 0.0),
    (RetuneConfig(epochs=EPOCHS, train="bias", dropout=True), 0.5),
]


@pytest.mark.parametrize(("settings", "distill"), CASES)
def test_it_ends_bit_by_bit_as_one_that_was_not_killed(
    job: Job, settings: TrainConfig, distill: float, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", "skip_exp")
    whole, curves, weights = run(job, settings, tmp_path / "whole", distill)
    per_epoch = int(curves.points[0]["step"])
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_in(2 * per_epoch - 1, patched)
        run(job, settings, tmp_path / "killed", distill)
    made = kill_in(-1, monkeypatch)
    caplog.clear()
    last, again, same = run(job, settings, tmp_path / "killed", distill)
    assert made == [*range(per_epoch, EPOCHS * per_epoch)]  # from the second epoch on
    assert all(torch.equal(weights[name], same[name]) for name in weights | same)
    assert again.points == curves.points and len(curves.points) == EPOCHS
    assert (last.epoch, last.score, last.start) == (whole.epoch, whole.score, whole.start)
    epochs = [text for text in caplog.messages if text.startswith("epoch ")]
    assert epochs[0].startswith("epoch 2 of 3")
    files = [tmp_path / name / "csv/metrics.csv" for name in ("whole", "killed")]
    scores = [
        [row[f"{settings.phase}/select_loss"] for row in csv.DictReader(file.open())]
        for file in files
    ]
    assert [x for x in scores[0] if x] == [x for x in scores[1] if x]


def test_every_epoch_has_the_rows_in_another_order(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = [[] for _ in range(EPOCHS)]
    original = PromptTuner.training_step

    def training_step(self: PromptTuner, batch: dict[str, Tensor], index: int) -> Tensor:
        seen[self.current_epoch] += batch["input_ids"].sum(1).tolist()
        return original(self, batch, index)

    monkeypatch.setattr(PromptTuner, "training_step", training_step)
    run(job, TuneConfig(epochs=EPOCHS, train="prompt"), tmp_path)
    assert seen[0] != seen[1] and sorted(seen[0]) == sorted(seen[1])


@pytest.mark.parametrize("left", [0, 1000])
def test_a_damaged_file_is_one_warning(
    left: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, model = tmp_path / "fit.ckpt", tiny_model()
    module: Any = SimpleNamespace(model=model, phase="tune", settings=TuneConfig(epochs=3))
    assert saving.find_checkpoint(path, module) is None and not caplog.records
    saved = {"epoch": 0, "pytorch-lightning_version": L.__version__}
    saved |= {"state_dict": trainable_state(model)}
    torch.save(saved, path)
    assert saving.find_checkpoint(path, module) == path and not caplog.records
    path.write_bytes(path.read_bytes()[:left])
    assert saving.find_checkpoint(path, module) is None
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "\n" not in record.getMessage()


def test_saving_takes_a_fiftieth_of_a_fit_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of 4 s; a save takes 0.5 s."""
    monkeypatch.setattr(saving, "FIRST", 10.0)
    monkeypatch.setattr(saving, "SHARE", 0.02)
    now, saves = 0.0, []

    def save(*_: Any, **__: Any) -> None:
        nonlocal now
        saves.append(now)
        now += 0.5

    monkeypatch.setattr(saving, "time", SimpleNamespace(monotonic=lambda: now))
    trainer: Any = SimpleNamespace(save_checkpoint=save)
    callback = saving.Checkpoint(Path("fit.ckpt"))
    callback.on_train_start(trainer, tiny_model())
    for _ in range(20):
        now += 4
        callback.on_train_epoch_end(trainer, None)
    assert saves == [12, 40.5, 69]


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    """By submitit, whose local jobs get the same signal as those of Slurm."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    line = [sys.executable, "-m", "skip_exp", *save_toy(tmp_path), "seed=1", "logger=none", "-m"]
    line += ["hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path}/sweep"]
    line += [f"cache.dir={tmp_path}/cache", "tune.epochs=250", "benchmark.enabled=false"]
    sweep = subprocess.Popen(line, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not [*tmp_path.glob("cache/fit_dense/*.ckpt")]:
            assert sweep.poll() is None
            time.sleep(0.1)
        for child in psutil.Process(sweep.pid).children(recursive=True):
            if "submitit.core._submit" in child.cmdline():
                child.send_signal(signal.SIGUSR2)
        assert sweep.wait() == 0
    finally:
        sweep.kill()
    (log,) = tmp_path.glob("sweep/*/skip_exp.log")
    assert "tune: goes on after epoch" in log.read_text()
    assert [result["status"] for result in results.load(tmp_path / "sweep")] == ["done"]
