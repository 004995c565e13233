"""How forms are timed: each answers the same texts as all others, in turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import NamedTuple

import torch

from skip_exp.utils.console import pause_collection
from skip_exp.utils.timing import alone

Answer = Callable[[list[list[str]]], object]  # such as Classifier.probabilities

SECONDS = 2.0  # of each model, about: one text at a time, then as many in batches
TURNS = 4  # turns of each model at least
BLOCK = 8  # texts that a model answers one by one in a turn
BATCH = 128  # texts that it answers at once


class Speed(NamedTuple):
    """How fast a model is, tokenizer included."""

    ms: float  # of one text on one thread, the median over texts
    p95: float  # the 95th percentile of the same
    texts: float  # a second, in batches on all threads, a median

    def rate(self, fastest: str) -> float:
        """Texts a second as ``prune.fastest`` counts them: in ``batches``, or ``one`` by one."""
        return self.texts if fastest == "batches" else 1000 / self.ms


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch computes on ``count`` threads within the block, also what is opened there."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_speeds(
    ones: Sequence[Answer], many: Sequence[Answer], texts: list[list[str]]
) -> tuple[list[Speed], bool]:
    """The speeds of models on these texts, and whether others were busy.

    Args:
        ones: each answers on one thread.
        many: the same models on all threads.
    """
    with on_threads(1):
        singles, one_contended = time_in_turns(ones, texts, BLOCK, 1)
    batches, contended = time_in_turns(many, texts, BATCH, BATCH)
    speeds = []
    for of_one, of_many in zip(singles, batches, strict=True):
        p95 = quantiles(of_one, n=20, method="inclusive")[-1]
        speeds.append(Speed(1000 * median(of_one), 1000 * p95, 1 / median(of_many)))
    return speeds, one_contended or contended


def time_in_turns(
    calls: Sequence[Answer], texts: list[list[str]], turn: int, batch: int
) -> tuple[list[list[float]], bool]:
    """Seconds a text of every batch, [calls][batches], and whether others were busy.

    In each turn all models answer the same ``turn`` texts. The first of these is answered before,
    untimed: the other models filled the caches.
    """

    def measure() -> list[list[float]]:
        times: list[list[float]] = [[] for _ in calls]
        end = time.perf_counter() + SECONDS * len(calls)
        number = 0
        while number < TURNS or time.perf_counter() < end:
            first = number * turn % len(texts)
            part = texts[first : first + turn]
            batches = [part[i : i + batch] for i in range(0, len(part), batch)]
            for call, of_call in zip(calls, times, strict=True):
                call(part[:1])
                for each in batches:
                    start = time.perf_counter()
                    call(each)
                    of_call.append((time.perf_counter() - start) / len(each))
            number += 1
        return times

    with pause_collection():
        return alone(measure)
