"""Sweeps whose jobs run in other processes: joblib, submitit (also on a Slurm) and Ray."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins

from skip_exp.config import schema as config
from tests.conftest import Cli
from tests.helpers.toy import save_toy

pytestmark = pytest.mark.filterwarnings(r"ignore:\n'hydra/launcher")  # as sweep.run does
LAUNCHERS = ("joblib", "submitit_local", "ray")
NAMES = sorted(path.stem for path in (config.conf_dir() / "hydra/launcher").glob("*.yaml"))
SETTINGS = [
    "tune.epochs=6",
    "tune.lr=0.05",
    "tune.readout_lr=0.05",
    "retune.epochs=1",
    "logger=none",
]


@dataclass
class Sweep:
    """What a command left behind; results, with their skills, by the name of the job's folder."""

    code: int
    out: str
    err: str
    results: dict[str, Any]


def installed(launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")


def results(folder: Path) -> dict[str, Any]:
    found = {}
    for file in sorted(folder.glob("outputs/*/*/*/result.json")):
        found[file.parent.name] = result = json.loads(file.read_text())
        if result["status"] == "done":
            result["tensors"] = (file.parent / result["skill"] / "skill.safetensors").read_bytes()
    return found


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``command(name, overrides)``: arguments for subprocess, in a folder with this name.

    Backbone, data and cache are given by relative paths: a worker in another folder finds nothing.
    """
    root = tmp_path_factory.mktemp("launchers")
    toy = [each.replace(str(root), "..") for each in save_toy(root)]
    command = [sys.executable, "-m", "skip_exp", *toy, *SETTINGS]

    def make(name: str, *overrides: str, **env: str) -> dict[str, Any]:
        (root / name).mkdir()
        return {
            "args": [*command, *overrides, "-m"],
            "cwd": root / name,
            "env": os.environ | {"OMP_NUM_THREADS": "1"} | env,
        }

    return make


def run(given: dict[str, Any]) -> Sweep:
    done = subprocess.run(**given, capture_output=True, text=True)
    return Sweep(done.returncode, done.stdout, done.stderr, results(given["cwd"]))


@pytest.fixture(scope="module")
def serial(command: Callable[..., Any]) -> Sweep:
    sweep = run(command("serial", "seed=1,2", "prune.ratio=0.3,0.6"))
    assert sweep.code == 0, sweep.err
    return sweep


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_do_what_one_process_does(
    command: Callable[..., Any], serial: Sweep, launcher: str
) -> None:
    installed(launcher)
    args = [f"hydra/launcher={launcher}", "seed=1,2", "prune.ratio=0.3,0.6"]
    sweep = run(command(launcher, *args))
    assert sweep.code == 0, sweep.err
    assert sweep.results.keys() == serial.results.keys()
    for name, result in sweep.results.items():
        assert result["status"] == "done"
        for field in ("metric", "metrics", "select", "params", "flops", "tensors"):
            assert result[field] == serial.results[name][field], (name, field)
        assert result["latency"]["threads"] == 1
    for stage in ("tune", "attribution"):  # one per seed, whichever of its jobs came first
        computed = [r["seed"] for r in sweep.results.values() if r["cache"][stage] == "miss"]
        assert sorted(computed) == [1, 2]
    groups = [{r["sweep"] for r in s.results.values()} for s in (serial, sweep)]
    assert groups[0] == groups[1] != {None}  # one W&B group, however the sweep is run
    assert "4 jobs" in sweep.out
    assert [line for line in serial.out.splitlines() if line == "[1/6] tune"] == ["[1/6] tune"] * 4
    if launcher == "joblib":  # the others' workers write to files of their own
        assert {f"[{n}] [1/6] tune" for n in (1, 2, 3, 4)} <= set(sweep.out.splitlines())
        assert re.search(r"^job 4 of 4", sweep.out, re.M)
    assert "Warning" not in sweep.err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_in_other_processes(command: Callable[..., Any], launcher: str) -> None:
    installed(launcher)
    args = [f"hydra/launcher={launcher}", "prune.ratio=0.99,0.3", "benchmark.enabled=false"]
    sweep = run(command(f"{launcher}-failed", *args))
    assert sweep.code == 1
    assert [result["status"] for result in sweep.results.values()] == ["failed", "done"]
    assert "2 jobs" in sweep.out and "failed: prune.ratio=0.99" in sweep.out
    assert "Traceback" not in sweep.err


@pytest.mark.slow
def test_sigterm_ends_the_workers_of_joblib(command: Callable[..., Any]) -> None:
    installed("joblib")
    endless = ["tune.epochs=99999"]
    given = command("killed", "hydra/launcher=joblib", "seed=1,2", *endless)
    parent = subprocess.Popen(**given, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while sum("] tune" in log.read_text() for log in logs(given["cwd"])) < 2:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        workers = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(signal.SIGTERM)
        told = parent.communicate(timeout=60)[1]
    finally:
        parent.kill()
    assert parent.returncode == 130
    assert "error: interrupted; results so far: outputs/" in told
    assert len(workers) >= 2
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def logs(folder: Path) -> list[Path]:
    return list(folder.glob("outputs/*/*/*/skip_exp.log"))


SBATCH = """#!/bin/sh
cp "$1" submitted.sh
echo "sbatch: error: no such partition" >&2
exit 1
"""


def test_what_a_slurm_is_asked_for(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("submitit_slurm")
    for name, text in (("sbatch", SBATCH), ("srun", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    overrides = ["hydra/launcher=submitit_slurm", "seed=1,2,3"]
    overrides += [f"hydra.launcher.{key}" for key in ("partition=gpu", "account=me")]
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ended = cli("+task=rte", *overrides, "-m")
    assert ended.code == 1 and "no such partition" in ended.err
    assert "no job left a result there" in ended.err
    lines = (tmp_path / "submitted.sh").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    wanted = {"partition=gpu", "account=me", "time=240", "gpus-per-node=1", "cpus-per-task=4"}
    assert asked >= wanted | {"mem=16GB", "nodes=1", "ntasks-per-node=1", "array=0-2%3"}
    (output,) = (line for line in asked if line.startswith("output="))
    assert f"={tmp_path}/outputs/" in output and "/.submitit/" in output
    assert lines.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK") < len(lines) - 1


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm", "ray"])
def test_a_launcher_that_is_not_installed_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    known = Plugins.instance().class_name_to_class
    without = {name: kind for name, kind in known.items() if not name.startswith("hydra_plugins.")}
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", without)
    ended = cli("+task=rte", "seed=1,2", f"hydra/launcher={launcher}", "-m")
    assert (ended.code, ended.jobs, ended.out) == (2, [], "")
    assert f"'skip_exp[{launcher.partition('_')[0]}]'" in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("launcher", NAMES)
def test_a_launcher_fits_its_plugin(launcher: str) -> None:
    installed(launcher)
    config.register()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        # Merged with the plugin's schema: a key or a type that it does not have fails here.
        chosen = ["+task=rte", f"hydra/launcher={launcher}"]
        hydra = compose("config", chosen, return_hydra_config=True).hydra
    assert hydra.launcher._target_ in Plugins.instance().class_name_to_class
