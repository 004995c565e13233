"""Memory that a pass has freed is there for the next one."""

import ctypes
import os
from functools import cache

# Of glibc's mallopt: what may stay free at the end of the heap, and from which size on a block is
# the system's own. Larger ones than these are refused.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 2**31 - 1, 32 * 2**20  # bytes
GIVEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed() -> None:
    """Have glibc keep what is freed, once per process; the environment's own settings go before.

    By itself it gives a layer's tensors back to the system and asks for them again: on a CPU page
    faults took a quarter of a pass of a model cut to 90 %, a third at 95 % (docs/performance.md).
    The process holds on to what it needed at its peak. Where there is no glibc, nothing happens.
    """
    if os.name != "posix" or any(name in os.environ for name in GIVEN):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, KEPT)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
