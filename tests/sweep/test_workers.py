"""What a worker of a parallel launcher takes of its machine: threads, one GPU, its folder."""

import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp.config.schema import TrainerConfig
from skip_exp.sweep import run

JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@pytest.fixture(autouse=True)
def environ() -> Iterator[None]:
    """As it was before, after each test; what the user may have set is not set."""
    with patch.dict(os.environ):
        for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
            os.environ.pop(name, None)
        yield


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs."""
    monkeypatch.setattr(run, "list_gpus", lambda: ["/dev/nvidia0", "/dev/nvidia1"])


@pytest.mark.parametrize(("cores", "half"), [(1, 2), (2, 2), (5, 2), (8, 4), (64, 32)])
def test_half_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, half: int) -> None:
    joblib = pytest.importorskip("joblib")
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert OmegaConf.create({"n_jobs": "${half_the_cores:}"}).n_jobs == half


@pytest.mark.parametrize(
    ("given", "seen"),
    [(None, ["0", "1"]), ("", []), ("2,0", ["2", "0"]), ("GPU-8f, GPU-3c", ["GPU-8f", "GPU-3c"])],
)
def test_visible_gpus(given: str | None, seen: list[str]) -> None:
    if given is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = given
    assert run.visible_gpus() == seen


def settle(monkeypatch: pytest.MonkeyPatch, target: str, **more: Any) -> list[list[str]]:
    """The GPUs among which one is claimed: all of the machine's two, or none of them."""
    claims: list[list[str]] = []
    hydra = {"mode": more.get("mode", RunMode.MULTIRUN), "job": {"num": 3}}
    launcher = {"_target_": target, "cpus_per_task": more.get("cpus")}
    monkeypatch.setattr(
        HydraConfig, "get", lambda: OmegaConf.create({**hydra, "launcher": launcher})
    )
    monkeypatch.setattr(run, "claim_gpu", lambda gpus, job: claims.append(gpus))
    run.take_share(TrainerConfig(more.get("accelerator", "auto")))
    return claims


@pytest.mark.parametrize(
    ("target", "more", "claims"),
    [
        (JOBLIB, {}, 1),
        (LOCAL, {"accelerator": "gpu"}, 1),
        (BASIC, {}, 0),
        (SLURM, {}, 0),
        (JOBLIB, {"mode": RunMode.RUN}, 0),
        (JOBLIB, {"accelerator": "cpu"}, 0),
    ],
)
def test_only_workers_side_by_side_claim_a_gpu(
    monkeypatch: pytest.MonkeyPatch, target: str, more: dict[str, Any], claims: int
) -> None:
    assert settle(monkeypatch, target, **more) == [["0", "1"]] * claims


def test_threads_are_the_cores_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch, JOBLIB)
    settle(monkeypatch, SLURM, cpus=4, mode=RunMode.RUN)
    assert "OMP_NUM_THREADS" not in os.environ
    settle(monkeypatch, SLURM, cpus=4)
    assert os.environ["OMP_NUM_THREADS"] == "4"
    settle(monkeypatch, LOCAL, cpus=2)  # set already, by the user as far as it can tell
    assert os.environ["OMP_NUM_THREADS"] == "4"


def test_workers_take_gpus_in_turn_and_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run.claim_gpu(["3"], 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ  # a single GPU is nobody's
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,MIG-7/0")
    run.claim_gpu(run.visible_gpus(), 3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-7/0"
    run.claim_gpu(run.visible_gpus(), 4)  # the second job of one worker
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-7/0"
