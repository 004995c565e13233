"""Fits over several processes: refusals, shares that add up, whole jobs on two CPU processes."""

import csv
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torchmetrics import MetricCollection

from skip_exp import pipeline
from skip_exp.config import schema as config
from skip_exp.config.train import TrainConfig
from skip_exp.data.batches import collate
from skip_exp.data.module import share
from skip_exp.errors import SkipError
from skip_exp.training import processes
from skip_exp.training.module import PromptTuner
from tests.helpers.saved import save_backbone
from tests.helpers.tiny import tiny_model
from tests.helpers.toy import composed, save_toy


@pytest.mark.parametrize("world", [2, 3, 9])
def test_shares_average_to_the_gradient_of_the_whole_batch(world: int) -> None:
    rng = random.Random(0)
    model = tiny_model("bert", "prefix", "head", labels=2)
    settings = TrainConfig(epochs=1, lr=0.1, readout_lr=0.1, batch=8, warmup=0.0, dropout=False)
    tuner = PromptTuner(model, "tune", settings, MetricCollection([])).train()
    rows = [
        {"input_ids": [rng.randrange(5, 50) for _ in range(rng.randrange(2, 9))], "label": i % 2}
        for i in range(7)
    ]

    def gradients(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        model.zero_grad()
        tuner.training_step(batch, 0).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}

    parts = []
    for rank in range(world):
        own, weight = share(rows, rank, world)
        parts.append(gradients(collate(own, 0) | {"weight": torch.tensor(weight)}))
    for name, whole in gradients(collate(rows, 0)).items():
        mean = sum(part[name] for part in parts) / world
        torch.testing.assert_close(mean, whole, atol=1e-6 * float(whole.abs().max()), rtol=0)


def raised(last: str) -> ProcessRaisedException:
    inner = 'Traceback (most recent call last):\n  File "b.py", line 1, in b\nKeyError: 1\n'
    outer = f'Traceback (most recent call last):\n  File "a.py", line 1, in a\n    a()\n{last}\n'
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    return ProcessRaisedException(f"\n\n-- Process 1 ...:\n{inner}{during}{outer}", 1, 99)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (raised("skip_exp.errors.ConfigError: tune.lr=9.0: too large"), SkipError, "tune.lr=9.0: "),
        (raised("RuntimeError: CUDA: one\ntwo"), RuntimeError, "process 2 of 2: RuntimeError: CUD"),
        (
            ProcessExitedException("", 0, 99, -9, "SIGKILL"),
            SkipError,
            "trainer.devices=2: process 1",
        ),
        (ProcessExitedException("", 0, 99, 3), SkipError, "trainer.devices=2: process 1 of 2"),
    ],
)
def test_the_failure_of_a_process_is_one_line(error: Any, kind: type, says: str) -> None:
    found = processes.failure(error, 2)
    assert type(found) is kind and str(found).startswith(says) and "\n" not in str(found)


# Whole jobs. Each start of a process costs seconds, so a test looks at many things at once.


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a job on a tiny BERT and 150 train rows."""
    return [
        *save_toy(tmp_path_factory.mktemp("ddp")),
        *("data.train_rows=150", "attribution.samples=32", "benchmark.enabled=false"),
        *("tune.epochs=3", "tune.min_steps=0", "tune.lr=0.03", "logger=csv"),
        *("tune.dropout=false", "trainer.progress=true"),  # processes draw other masks
        *("retune.epochs=1", "retune.min_steps=0", "retune.budget=0", "retune.copies=0"),
    ]


@pytest.fixture
def start(toy: list[str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start("prune.ratio=0.5", ...)``: the command line over two processes, in ``tmp_path``."""
    started = []

    def command(*overrides: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "skip_exp", *toy, "trainer=ddp", "trainer.accelerator=cpu"]
        line += [f"cache.dir={tmp_path}/cache", *overrides]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(line, cwd=tmp_path, **pipes))
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.communicate()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of the fit under way."""
    every = psutil.Process(process.pid).children(recursive=True)
    return [child for child in every if "spawn_main" in " ".join(child.cmdline())]


def wait_for_fit(process: subprocess.Popen[str]) -> tuple[list[psutil.Process], str]:
    """Wait until a first epoch is told; returns the fit's processes and what was printed."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if "epoch 1 of" in line:
            break
    found = children(process)
    assert len(found) == 2, told
    return found, told


def alone(resolved: Path, folder: Path) -> dict[str, Any]:
    """The job of a ``config.yaml`` in one process: this one."""
    cfg: Any = OmegaConf.load(resolved)
    cfg.trainer.devices = 1
    cfg.cache.dir, cfg.output_dir = str(folder / "cache"), str(folder / f"{cfg.prune.ratio}")
    return pipeline.run(config.to_object(cfg, config.Config)).to_dict()


def curves(folder: Path) -> list[list[float]]:
    """The losses on the selection slice in metrics.csv, of both phases."""
    with (folder / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("tune/select_loss", "retune/select_loss")
    return [[float(row[name]) for row in rows if row[name]] for name in names]


@pytest.mark.slow
def test_a_sweep_over_two_processes(start: Any, tmp_path: Path) -> None:
    running = start("prune.ratio=0.4,0.9", "hydra.sweep.dir=out", "-m")
    told = running.communicate(timeout=300)[0]
    assert running.returncode == 0, told
    assert not re.search(r"warning|error:|traceback", told, re.I)
    jobs = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    results = [json.loads((job / "result.json").read_text()) for job in jobs]
    assert [r["status"] for r in results] == ["done", "done"]
    assert [r["cache"]["tune"] for r in results] == ["miss", "hit"]
    assert [0, 3] in results[1]["keep_sizes"].values()  # its prefix has no gradient
    for job, result in zip(jobs, results, strict=True):
        reference = alone(job / "config.yaml", tmp_path / "alone")
        for key in ("metric", "metrics", "select", "keep_sizes", "params"):
            assert result[key] == reference[key]
        # Rounding only: same batches, same averaged gradient, every row scored once.
        for own, one in zip(
            curves(job), curves(tmp_path / "alone" / str(result["ratio"])), strict=True
        ):
            assert own == pytest.approx(one, abs=1e-5)
    # Only the job's own process writes: one result, skill and log a job, nothing elsewhere.
    assert [p.name for p in (tmp_path / "out").rglob("*.log")] == ["skip_exp.log"] * 2
    assert {p.name for p in tmp_path.iterdir()} == {"out", "cache", "alone"}
    assert len(list((tmp_path / "cache" / "fit_dense").glob("*.safetensors"))) == 1


@pytest.mark.slow
def test_processes_are_started_for_what_is_not_cached(
    toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*overrides: str) -> Any:
        fixed = ["trainer.accelerator=cpu", "logger=none", f"cache.dir={tmp_path}/cache"]
        return pipeline.run(composed(*toy, *fixed, *overrides))

    started: list[Any] = []

    def start(*args: Any, **options: Any) -> Any:
        started.append(args)
        return real(*args, **options)

    real = torch.multiprocessing.start_processes
    monkeypatch.setattr(torch.multiprocessing, "start_processes", start)
    run("retune.enabled=false", f"output_dir={tmp_path}/first")
    assert started == []
    second = run("trainer=ddp", f"output_dir={tmp_path}/second")
    assert second["cache"] == {"tune": "hit", "attribution": "hit"}
    assert len(started) == 1
    run("trainer=ddp", "retune.enabled=false", "prune.ratio=0.3", f"output_dir={tmp_path}/third")
    assert len(started) == 1
    # This process is as it was.
    assert not torch.distributed.is_initialized()
    assert not {"LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT"} & os.environ.keys()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_refusal_in_a_process_fails_the_job_in_one_line(start: Any, tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "broken", "bert")
    weights = load_file(backbone / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.bias"][3] = torch.nan
    save_file(weights, backbone / "model.safetensors", {"format": "pt"})
    prompt = ["tune.train=prompt"]  # no head starts
    running = start(*prompt, f"backbone.path={backbone}", "hydra.run.dir=out")
    told = running.communicate(timeout=300)[0]
    assert running.returncode == 1
    [line] = [line for line in told.splitlines() if "error" in line]
    assert line.startswith("error: tune.lr=0.03: ")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_killed_process_fails_its_job_only(start: Any, tmp_path: Path) -> None:
    endless = ("tune.epochs=9999", "prune.ratio=0.3,0.6", "-m")
    running = start(*endless, "hydra.sweep.dir=out")
    first, _ = wait_for_fit(running)
    first[1].kill()
    assert not psutil.wait_procs(first, timeout=60)[1]
    again, told = wait_for_fit(running)  # of the next job
    running.send_signal(signal.SIGTERM)
    told += running.communicate(timeout=60)[0]
    assert running.returncode == 130
    failed, stopped = re.findall("error: (.*)", told)
    assert "trainer.devices=2: process 2 of 2" in failed and "SIGKILL" in failed
    assert "interrupted" in stopped
    assert "Traceback" not in told
    assert not psutil.wait_procs(again, timeout=30)[1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_job(start: Any, tmp_path: Path, how: signal.Signals) -> None:
    running = start("tune.epochs=9999", "hydra.run.dir=out")
    fitting, _ = wait_for_fit(running)
    if how == signal.SIGINT:  # Ctrl-C reaches the processes of the fit as well
        for child in fitting:
            child.send_signal(how)
    os.kill(running.pid, how)
    told = running.communicate(timeout=60)[0]
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in told
    assert not psutil.wait_procs(fitting, timeout=30)[1]
