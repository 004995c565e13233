"""What a timing depends on, who else computes, and what becomes of freed memory."""

import ctypes
import os
import subprocess
import sys
from collections import namedtuple

import psutil
import pytest

from skip_exp.utils import machine, timing

Times = namedtuple("Times", "user nice system idle iowait guest guest_nice")
FAULTS = """
import resource, torch
from skip_exp.utils import machine
{before}
torch.set_num_threads(1)
x = torch.ones(32, 48, 384)
def passes(n):
    for _ in range(n):
        (x + x.bfloat16().float()).sum() + (x * 2 + x).sum()
passes(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(before: str, **environment: str) -> int:
    """Page faults of twenty passes over a few tensors of two megabytes."""
    code = FAULTS.format(before=before)
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout)


@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)
def test_freed_memory_is_kept() -> None:
    without, kept = faults(""), faults("machine.keep_freed()")
    assert kept < 100 and without > 1000
    # Who has set this by hand keeps it: here every tensor is the system's own.
    by_hand = faults("machine.keep_freed()", MALLOC_MMAP_THRESHOLD_="65536")
    assert by_hand > 1000


def test_a_timing_holds_for_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests of a cloud have one name; ARM has none."""
    told = [
        {"model name": "Intel(R) Xeon(R) Processor", "flags": "avx512_bf16"},
        {"model name": "Intel(R) Xeon(R) Processor", "flags": "avx512_bf16 amx_bf16"},
        {"CPU part": "0xd0c"},
        {"CPU part": "0xd4f"},
    ]
    found = set()
    for info in told * 2:
        monkeypatch.setattr(machine, "_cpuinfo", lambda info=info: info)
        found.add(str(timing.describe_place("cpu")))
    assert len(found) == len(told)


def test_load_is_that_of_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    idle, busy = Times(0, 0, 0, 10, 0, 0, 0), Times(7, 0, 1, 0, 2, 0, 0)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [busy, idle, busy, busy])
    for ours, seconds in (({0, 1}, 8), ({1}, 0), ({0, 2, 3}, 24), ({8, 9}, 24)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, ours=ours: ours, raising=False)
        assert machine.Load().busy == seconds


@pytest.mark.parametrize(
    ("ours", "logical", "physical", "threads", "free"),
    [
        (2, 2, 2, 2, 0),
        (64, 64, 64, 8, 56),
        (64, 64, 32, 8, 24),
        (64, 64, 32, 32, 0),
        (24, 24, 16, 16, 0),
        (64, 64, None, 8, 0),
        (1, 64, 64, 8, 0),
    ],
)
def test_cores_that_a_measurement_leaves_free(
    monkeypatch: pytest.MonkeyPatch,
    ours: int,
    logical: int,
    physical: int | None,
    threads: int,
    free: int,
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: ours)
    counts = {True: logical, False: physical}
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: counts[logical])
    assert machine.free_cores(threads) == free


def test_beside_a_gpu_others_may_use_all_cores_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "free_cores", lambda threads: 8 - threads)
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 8)
    others = iter([0.2, 0.3, 7.2, 7.3])
    monkeypatch.setattr(timing.Load, "others", lambda _: next(others))
    devices = ("cpu", "cpu", "cuda:0", "cuda:0")
    found = [timing.alone(lambda: None, device=device)[1] for device in devices]
    assert found == [False, True, False, True]
