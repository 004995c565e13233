"""Calls timed in turns, one measurement at a time, and whether others were busy meanwhile."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import psutil
import torch

from skip_exp.utils.files import machine_lock
from skip_exp.utils.provenance import processor

log = logging.getLogger(__name__)
T = TypeVar("T")

BUSY = 0.25  # cores that other processes may use before a measurement counts as contended


def alone(measure: Callable[[], T], *, inference: bool = True, lock: bool = True) -> tuple[T, bool]:
    """``measure()``, no other of this user beside it; whether other processes were busy.

    Args:
        inference: without gradients.
        lock: False where ``measure`` starts commands that take the lock themselves.
    """
    with machine_lock("benchmark") if lock else nullcontext(), torch.inference_mode(inference):
        load = Load()
        measured = measure()
        others = load.others()
    if others > BUSY:
        log.warning("benchmark: other processes used %.1f cores; marked as contended", others)
    return measured, others > BUSY


def interleave(
    calls: list[Callable[[], object]],
    *,
    repeats: int,
    warmup: int,
    synchronise: Callable[[], None] | None = None,
) -> list[list[float]]:
    """Seconds of each call, [calls][repeats]: A B A B ..., so that drift hits all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for round_ in range(warmup + repeats):
        for call, times_of_call in zip(calls, times, strict=True):
            if synchronise:
                synchronise()
            start = time.perf_counter()
            call()
            if synchronise:
                synchronise()
            if round_ >= warmup:
                times_of_call.append(time.perf_counter() - start)
    return times


class Load:
    """How many cores the processes beside this one kept busy since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.busy_seconds, self.own_seconds = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        everything = psutil.cpu_times()
        idle = everything.idle + getattr(everything, "iowait", 0.0)
        total = sum(everything) - getattr(everything, "guest", 0.0)
        return total - idle, sum(os.times()[:4])  # with the commands that this process waited for

    def others(self) -> float:
        busy_seconds, own_seconds = self._now()
        wall = time.perf_counter() - self.start
        return (
            max(0.0, (busy_seconds - self.busy_seconds) - (own_seconds - self.own_seconds)) / wall
        )


def place(device: torch.device | str) -> dict[str, Any]:
    """The ``device``, by name, and the ``threads`` without which two timings do not compare."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"device": name, "threads": torch.get_num_threads()}


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
