"""Sweeps that are killed, run side by side, or meet a full disk end with the right results."""

import errno
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from skip_exp import pipeline, results
from skip_exp.errors import SkipError
from tests.helpers.toy import check_files, numbers, toy_job

KILLS = int(os.environ.get("SKIP_EXP_KILLS", "4"))
SEED = int(os.environ.get("SKIP_EXP_KILL_SEED", "1"))  # of the moments of the kills
SEEDS, RATIOS = (1, 2), (0.3, 0.6)


class Sweep:
    """``python -m skip_exp ... -m`` in a process group of its own, under ``folder``."""

    def __init__(self, folder: Path, overrides: list[str], cache: Path, epochs: int) -> None:
        self.folder, self.output, self.spent = folder, folder.with_suffix(".txt"), 0.0
        command = [sys.executable, "-m", "skip_exp", *overrides, "logger=none"]
        command += [
            f"seed={','.join(map(str, SEEDS))}",
            f"prune.ratio={','.join(map(str, RATIOS))}",
        ]
        command += [f"tune.epochs={epochs}", f"retune.epochs={epochs}"]
        command += [f"hydra.sweep.dir={folder}", f"cache.dir={cache}", "-m"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def ended(self, after: float = math.inf) -> bool:
        """Wait until it has ended, well, or spent so many seconds of CPU time.

        Of CPU time, since a busy machine stretches the phases, and does so unevenly.
        """
        child = psutil.Process(self.process.pid)
        while self.process.poll() is None:
            with suppress(psutil.Error):
                self.spent = sum(child.cpu_times()[:2])
            if self.spent > after:
                return False
            time.sleep(0.002)
        assert self.process.returncode == 0, self.output.read_text()
        return True

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.slow
def test_a_killed_sweep_goes_on(toy: list[str], tmp_path: Path) -> None:
    def sweep(name: str) -> Sweep:
        return Sweep(tmp_path / name, toy, tmp_path / f"{name}-cache", epochs=16)

    undisturbed = sweep("reference")
    assert undisturbed.ended()
    reference = numbers(tmp_path / "reference")
    assert len(reference) == len(SEEDS) * len(RATIOS)
    rng = random.Random(SEED)
    print(f"\nundisturbed: {undisturbed.spent:.1f} s of CPU time; SKIP_EXP_KILL_SEED={SEED}")

    def check(name: str) -> None:
        assert numbers(tmp_path / name) == reference
        check_files(tmp_path / name, tmp_path / f"{name}-cache")

    done = number = 0
    while number < KILLS:
        running = sweep(f"killed-{done}")
        if running.ended(undisturbed.spent * rng.random()):  # too late: a new sweep
            check(f"killed-{done}")
            done += 1
            continue
        running.kill()
        number += 1
    assert sweep(f"killed-{done}").ended()
    check(f"killed-{done}")


@pytest.mark.slow
def test_four_processes_share_the_work(toy: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    running = [Sweep(tmp_path / f"sweep-{i}", toy, cache, epochs=4) for i in range(4)]
    assert all(sweep.ended() for sweep in running)
    found = [numbers(sweep.folder) for sweep in running]
    assert len(found[0]) == len(SEEDS) * len(RATIOS)
    assert all(each == found[0] for each in found)
    computed = [r for sweep in running for r in results.load(sweep.folder) if r["seconds"]]
    for seed in SEEDS:
        mine = [result["cache"] for result in computed if result["seed"] == seed]
        assert len(mine) == len(RATIOS)  # each job was run by one process
        for stage in ("tune", "attribution"):
            assert [each[stage] for each in mine].count("miss") == 1
    check_files(tmp_path)


Make = Callable[..., Any]


@pytest.fixture
def job(toy: list[str], tmp_path: Path) -> Make:
    """``job("a", ...)``: a small job's configuration, its folder ``a``."""
    return partial(toy_job, toy, tmp_path)


def full(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """From now on the disk is full for files with ``part`` in their path."""
    error = OSError(errno.ENOSPC, "No space left on device")
    write_bytes = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if part not in str(path):
            return write_bytes(path, content)
        write_bytes(path, content[:7])
        raise error

    monkeypatch.setattr(Path, "write_bytes", write)


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ("/cache/", "cache.dir={}/cache"),
        ("/skill/", "{}/a/skill/skill.safetensors"),
        ("result.json", "output_dir={}/a"),
    ],
)
def test_a_full_disk_is_one_line(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, place: str
) -> None:
    with monkeypatch.context() as patched, pytest.raises(SkipError) as refused:
        full(patched, part)
        pipeline.run(job("a"))
    told = str(refused.value)
    assert told.startswith(f"{place.format(tmp_path)}: ")
    assert told.endswith(": No space left on device")
    check_files(tmp_path)
    done = pipeline.run(job("a"))
    is_stored = not done["seconds"]  # the whole job, or its stages: nothing is computed again
    stage = "miss" if part == "/cache/" else "hit"
    assert is_stored or done["cache"] == {"tune": stage, "attribution": stage}
    check_files(tmp_path)
