"""What was freed is used again, instead of asked for anew."""

import ctypes
import os
import subprocess
import sys

import pytest

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
