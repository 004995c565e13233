"""Sweeps that are killed, run side by side, or meet a full disk end with the right results."""

import errno
import math
import os
import random
import re
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
from tests.helpers.toy import check_files, numbers, save_toy, toy_job

KILLS = int(os.environ.get("SKIP_EXP_KILLS", "4"))
SEED = int(os.environ.get("SKIP_EXP_KILL_SEED") or random.randrange(1000))  # a new one each time
SEEDS, RATIOS = (1, 2), (0.3, 0.6)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_toy(tmp_path_factory.mktemp("toy"))


PHASES = ("tune", "attribute", "prune", "retune", "test", "benchmark")


class Sweep:
    """``python -m skip_exp ... -m`` in a process group of its own, under ``folder``."""

    def __init__(self, folder: Path, overrides: list[str], cache: Path, epochs: int) -> None:
        self.folder, self.output, self.spent = folder, folder.with_suffix(".txt"), 0.0
        command = [sys.executable, "-m", "skip_exp", *overrides, "logger=none"]
        command += [
            f"seed={','.join(map(str, SEEDS))}",
            f"prune.ratio={','.join(map(str, RATIOS))}",
        ]
        command += [f"tune.epochs={epochs}", f"tune.patience={epochs}", f"retune.epochs={epochs}"]
        command += [f"hydra.sweep.dir={folder}", f"cache.dir={cache}", "-m"]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def ended(self, after: float = math.inf, phase: str = "", nth: int = 1) -> bool:
        """Wait until it has ended, well, or spent so many seconds of CPU time.

        Of CPU time, since a busy machine stretches the phases, and does so unevenly. With a
        ``phase`` the count begins when that phase begins for the ``nth`` time.
        """
        child, begun = psutil.Process(self.process.pid), 0.0 if not phase else math.inf
        while self.process.poll() is None:
            with suppress(psutil.Error):
                self.spent = sum(child.cpu_times()[:2])
            if math.isinf(begun) and self.phases().count(phase) >= nth:
                begun = self.spent
            if self.spent - begun > after:
                return False
            time.sleep(0.002)
        assert self.process.returncode == 0, self.output.read_text()
        return True

    def phases(self) -> list[str]:
        """The phases that have begun, ``startup`` before those of each job."""
        starts = r"^(?:(Launching|adjectives: )|(\w+) \.\.\.$)"
        found = re.findall(starts, self.output.read_text(), re.MULTILINE)
        return [phase or "startup" for _, phase in found]

    def kill(self) -> str:
        """SIGKILL to the whole group; the phase that it hit."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return self.phases()[-1] if self.phases() else "startup"


def lengths(folder: Path) -> dict[str, float]:
    """Seconds within which a kill hits each phase of a job: the longest of its jobs' times.

    ``benchmark`` ends with the result file.
    """
    longest: dict[str, float] = {"startup": 0.2}
    for result in results.load(folder):
        spent = dict(result["seconds"])
        spent["benchmark"] += 0.3
        for phase in PHASES:
            longest[phase] = max(longest.get(phase, 0.0), spent[phase])
    return longest


@pytest.mark.slow
def test_a_killed_sweep_goes_on(toy: list[str], tmp_path: Path) -> None:
    """Every second kill comes at any moment of the run, the others in the phase hit least."""

    def sweep(name: str) -> Sweep:
        return Sweep(tmp_path / name, toy, tmp_path / f"{name}-cache", epochs=16)

    undisturbed = sweep("reference")
    assert undisturbed.ended()
    duration = undisturbed.spent
    reference = numbers(tmp_path / "reference")
    assert len(reference) == len(SEEDS) * len(RATIOS)
    rng, hit = random.Random(SEED), dict.fromkeys(lengths(tmp_path / "reference"), 0)
    print(f"\nundisturbed: {duration:.1f} s of CPU time; SKIP_EXP_KILL_SEED={SEED}")

    def check(name: str) -> None:
        assert numbers(tmp_path / name) == reference
        cache = tmp_path / f"{name}-cache"
        check_files(tmp_path / name, cache)
        command = [sys.executable, "-m", "skip_exp", "cache", "--dir", str(cache), "size"]
        listed = subprocess.run(command, capture_output=True, text=True)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert listed.stdout.endswith(" in 8 entries\n")

    def moment(number: int) -> tuple[float, str, int]:
        """When to kill: CPU time, counted from the start or from the nth start of a phase."""
        if number % 2:
            return duration * rng.random(), "", 1
        phase = min(hit, key=lambda each: (hit[each], rng.random()))
        return lengths(tmp_path / "reference")[phase] * rng.random(), phase, rng.choice((1, 1, 2))

    done = number = 0
    while number < KILLS:
        delay, phase, nth = moment(number)
        running = sweep(f"killed-{done}")
        if running.ended(delay, phase, nth):  # too late to hit anything: a new sweep
            check(f"killed-{done}")
            done += 1
            continue
        where = running.kill()
        hit[where] += 1
        print(f"kill {number}: {delay:.2f} s after {phase or 'the start'} {nth}, hit {where}")
        number += 1
    assert sweep(f"killed-{done}").ended()
    check(f"killed-{done}")
    print(f"hit: {hit}")
    assert 4 * len(hit) > KILLS or all(hit.values())


@pytest.mark.slow
def test_four_processes_share_the_work(toy: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    running = [Sweep(tmp_path / f"sweep-{i}", toy, cache, epochs=4) for i in range(4)]
    assert all(sweep.ended() for sweep in running)
    found = [numbers(sweep.folder) for sweep in running]
    assert len(found[0]) == len(SEEDS) * len(RATIOS)
    assert all(each == found[0] for each in found)
    computed = [r for sweep in running for r in results.load(sweep.folder) if not r["reused"]]
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
    """From now on the disk is full: for files with ``part`` in their path, or to be flushed."""
    error = OSError(errno.ENOSPC, "No space left on device")
    write_bytes = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if part not in str(path):
            return write_bytes(path, content)
        write_bytes(path, content[:7])
        raise error

    monkeypatch.setattr(Path, "write_bytes", write)


def test_a_full_disk_below_the_cache_costs_a_warning(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    with monkeypatch.context() as patched:
        full(patched, "/cache/")
        first = pipeline.run(job("a"))
    assert [caplog.text.count(text) for text in ("No space left", "cache.dir=")] == [1, 1]
    again = pipeline.run(job("b"))
    assert again["cache"] == {"tune": "miss", "attribution": "miss"}
    assert numbers(tmp_path / "a")["a"] == numbers(tmp_path / "b")["b"]
    assert first["status"] == "done"
    check_files(tmp_path)


@pytest.mark.parametrize(
    ("part", "told"),
    [("/skill/", "cannot be written"), ("result.json", "cannot write result.json")],
)
def test_a_full_disk_below_the_output_is_one_line(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, told: str
) -> None:
    with monkeypatch.context() as patched, pytest.raises(SkipError) as refused:
        full(patched, part)
        pipeline.run(job("a"))
    assert str(refused.value) == f"output_dir={tmp_path}/a: {told}: No space left on device"
    check_files(tmp_path)
    done = pipeline.run(job("a"))
    assert (done["reused"], done["cache"]) == (False, {"tune": "hit", "attribution": "hit"})
    check_files(tmp_path)
