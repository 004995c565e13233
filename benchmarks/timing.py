"""Side by side in one process: calls that take turns, their ratios, and their peak memory."""

import ctypes
import gc
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch

from benchmarks.tables import Reach, Row
from skip_exp.utils.timing import alone, best_device, interleave

KEEP_MAPPED = -3  # M_MMAP_THRESHOLD of glibc's mallopt
MOST = 200  # rounds
SCALES = {"s": 1.0, "ms": 1e3}


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


def compare(
    name: str,
    setting: str,
    times: Times,
    *,
    ours: int = 0,
    theirs: int | None = 1,
    unit: str = "s",
    of: float = 1.0,
    cost: bool = False,
    reach: Reach | None = None,
) -> Row:
    """The row of one or two calls that took turns.

    Args:
        ours, theirs: which calls; without ``theirs`` one figure and no ratio.
        unit: ``s`` or ``ms`` for times, e.g. ``texts/s`` for rates.
        of: how much a call does: texts, tokens, layers; figures are for one of them, or a second.
        cost: the ratio is our time over theirs, not how many times faster ours is.
    """

    def figure(call: int) -> float:
        seconds = times.median(call) / of
        return SCALES[unit] * seconds if unit in SCALES else 1 / seconds

    if theirs is None:
        return Row(name, setting, figure(ours), unit=unit, reach=reach, contended=times.contended)
    ratio = times.ratio(ours, theirs) if cost else times.ratio(theirs, ours)
    return Row(name, setting, figure(ours), figure(theirs), unit, *ratio, reach, times.contended)


def side_by_side(
    calls: Sequence[Callable[[], object]],
    *,
    seconds: float,
    least: int = 3,
    warm_up: bool = True,
    inference: bool = True,
) -> Times:
    """Time ``calls`` in turns for about ``seconds``, after one round to warm up.

    The warm-up tells how many rounds fit: at least ``least``, at most MOST. Without it, ``least``
    rounds.
    """

    def rounds(repeats: int) -> list[list[float]]:
        return interleave(calls, repeats=repeats, warmup=0, device=best_device())

    def measure() -> list[list[float]]:
        if not warm_up:
            return rounds(least)
        first = sum(map(sum, rounds(1)))
        return rounds(max(least, min(MOST, int(seconds / first))))

    return Times(*alone(measure, inference=inference))


def reported(calls: Sequence[Callable[[], float]], *, repeats: int) -> Times:
    """Calls in turns that each return the seconds that count, after one round to warm up."""

    def measure() -> list[list[float]]:
        rounds = [[call() for call in calls] for _ in range(1 + repeats)][1:]
        return [list(seconds) for seconds in zip(*rounds, strict=True)]

    return Times(*alone(measure, inference=False))


def clock(call: Callable[[], object]) -> float:
    """Seconds of one call, the device's queue included."""
    return interleave([call], repeats=1, warmup=0, device=best_device())[0][0]


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
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # Freed memory goes back to the system, now and from here on: else the heap that an earlier
        # call left behind would hide what this one needs.
        libc.mallopt(KEEP_MAPPED, 1 << 16)
        libc.malloc_trim(0)
    process, done = psutil.Process(), threading.Event()
    held = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(1e-3):
            held.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return float(max(held) - held[0]) / 1e6
