"""Calls timed in turns, one measurement at a time, marked as contended where others were busy."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from skip_exp.utils.console import bar, pause_collection
from skip_exp.utils.files import hold_machine
from skip_exp.utils.machine import BUSY, Load, cores, free_cores, processor, processor_lines

log = logging.getLogger(__name__)
T = TypeVar("T")


class Clock:
    """Announces each phase and measures it: ``seconds`` by phase, and ``total`` since its start.

    Args:
        phases: those that are announced, in order, e.g. as ``[2/6] attribute``.
    """

    def __init__(self, phases: Sequence[str]) -> None:
        self.announced = phases
        self.start = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure one phase."""
        if phase in self.announced:
            number = self.announced.index(phase) + 1
            log.info("[%d/%d] %s", number, len(self.announced), phase)
        start = time.perf_counter()
        yield
        self.phases[phase] = time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        return self.phases | {"total": time.perf_counter() - self.start}


def alone(measure: Callable[[], T], *, device: torch.device | str = "cpu") -> tuple[T, bool]:
    """``measure()`` while no other measurement by this user runs; whether it was contended.

    Args:
        device: where ``measure`` computes. Others may use the cores that it leaves free: all but
            torch's threads, or all but one beside a GPU, whose own load is not seen.
    """
    threads = 1 if torch.device(device).type == "cuda" else torch.get_num_threads()
    one_at_a_time = hold_machine("benchmark", "times a model on this machine")
    with one_at_a_time, torch.inference_mode():
        load = Load()
        measured = measure()
        others = load.others()
    contended = others > free_cores(threads) + BUSY
    if contended:
        log.warning("other processes used %.1f cores: the timing is marked as contended", others)
    return measured, contended


def interleave(
    calls: Sequence[Callable[[], object]],
    *,
    repeats: int,
    warmup: int,
    device: torch.device | str = "cpu",
) -> list[list[float]]:
    """Seconds of each call, [calls][repeats]: A B A B ..., so that drift hits all alike.

    Python's garbage collector rests: with sixteen models loaded, a full collection takes 0.3 s, and
    it can fall on the same call again and again.
    """
    is_cuda = torch.device(device).type == "cuda"

    def wait() -> None:
        if is_cuda:
            torch.cuda.synchronize()

    times: list[list[float]] = [[] for _ in calls]
    rounds = warmup + repeats
    gc.collect()
    with pause_collection():
        for round_ in bar(rounds, "benchmark", range(rounds)):
            for call, times_of_call in zip(calls, times, strict=True):
                wait()
                start = time.perf_counter()
                call()
                wait()
                if round_ >= warmup:
                    times_of_call.append(time.perf_counter() - start)
    return times


def place(device: torch.device | str) -> dict[str, Any]:
    """The name of ``device`` and the number of ``threads``: timings depend on both."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"device": name, "threads": torch.get_num_threads()}


def describe_place(device: torch.device | str) -> list[Any]:
    """What a timing depends on: :func:`place`, cores, and the instructions of the processor."""
    return [*place(device).values(), cores(), *processor_lines()]
