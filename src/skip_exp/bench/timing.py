"""Side by side in one process: calls that take turns, their ratios, and their peak memory."""

import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil
import torch

from skip_exp.machine.timing import alone, best_device, interleave

KEEP_MAPPED = -3  # M_MMAP_THRESHOLD of glibc's mallopt


@dataclass(frozen=True)
class Times:
    """Seconds of calls that took turns, [calls][rounds]."""

    seconds: list[list[float]]
    contended: bool

    def median(self, call: int) -> float:
        return statistics.median(self.seconds[call])

    def ratio(self, over: int, under: int) -> tuple[float, float]:
        """Median of ``over`` / ``under``, pair by pair, and half its interquartile range."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        ratios = [a / b for a, b in pairs]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (0.0, 0.0, 0.0)
        return statistics.median(ratios), (high - low) / 2


def side_by_side(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float,
    least: int = 3,
    most: int = 200,
    warm_up: bool = True,
    inference: bool = True,
) -> Times:
    """Time ``calls`` in turns for about ``seconds``, after one round to warm up.

    The warm-up tells how many rounds fit: at least ``least``, at most ``most``. Without it,
    ``least`` rounds.
    """
    run = partial(interleave, list(calls), warmup=0, synchronise=synchronise())

    def measure() -> list[list[float]]:
        if not warm_up:
            return run(repeats=least)
        first = sum(map(sum, run(repeats=1)))
        return run(repeats=max(least, min(most, int(seconds / first))))

    return Times(*alone(measure, inference=inference))


def reported(calls: Sequence[Callable[[], float]], *, repeats: int) -> Times:
    """Calls in turns that each return the seconds that count, after one round to warm up."""

    def measure() -> list[list[float]]:
        rounds = [[call() for call in calls] for _ in range(1 + repeats)][1:]
        return [list(own) for own in zip(*rounds, strict=True)]

    return Times(*alone(measure, inference=False))


def synchronise() -> Callable[[], None] | None:
    """What ends the queue of the device, where it has one."""
    return torch.cuda.synchronize if best_device() == "cuda" else None


def clock(call: Callable[[], object]) -> float:
    """Seconds of one call, the device's queue included."""
    return interleave([call], repeats=1, warmup=0, synchronise=synchronise())[0][0]


def peak_memory(call: Callable[[], object]) -> float:
    """Megabytes (10^6 bytes) that ``call`` needs at its peak beyond what was held before.

    On a GPU what its allocator handed out, on a CPU what the process held (read every millisecond,
    so a shorter peak may be missed).
    """
    gc.collect()
    if best_device() == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    _give_back()
    process, done, seen = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.is_set():
            seen[0] = max(seen[0], process.memory_info().rss)
            time.sleep(1e-3)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(0, seen[0] - before) / 1e6


def _give_back() -> None:
    """Have glibc return freed memory to the system, now and from here on.

    Else the heap that an earlier call left behind would hide what this one needs.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(KEEP_MAPPED, 1 << 16)
        libc.malloc_trim(0)
