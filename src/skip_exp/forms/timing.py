"""How a form is timed: it answers the same texts as all others, in turns."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median, quantiles
from typing import NamedTuple

from skip_exp.utils.timing import alone, interleave

SECONDS = 4.0  # of each model, about; they answer in turns
FEWEST_TURNS, MOST_TURNS = 5, 30  # fewer texts, where all of them would take longer
TEXTS = 32  # that are timed at least


class Speed(NamedTuple):
    """Texts a second, tokenizer included: median, and half the interquartile range."""

    texts: float
    spread: float


def time_in_turns(
    calls: Sequence[Callable[[list[list[str]]], object]], texts: list[list[str]]
) -> tuple[list[Speed], bool]:
    """The speed of each call on these texts, A B C A B C ..., and whether others were busy.

    Slow models answer fewer of the texts.

    Args:
        calls: answer texts, such as :meth:`Classifier.probabilities`.
    """
    first, seconds = texts[:TEXTS], SECONDS * len(calls)

    def measure() -> tuple[list[list[float]], int]:
        start = time.perf_counter()
        interleave([partial(call, first) for call in calls], repeats=1, warmup=1)
        turn = (time.perf_counter() - start) / 2  # of the first texts
        count = round(len(first) * seconds / (FEWEST_TURNS * turn))
        answered = texts[: max(len(first), count)]
        turns = round(seconds * len(first) / (turn * len(answered)))
        bound = [partial(call, answered) for call in calls]
        repeats = min(MOST_TURNS, max(FEWEST_TURNS, turns))
        return interleave(bound, repeats=repeats, warmup=1), len(answered)

    (times, count), contended = alone(measure)
    speeds = []
    for of_call in times:
        rates = [count / took for took in of_call]
        low, _, high = quantiles(rates, n=4)
        speeds.append(Speed(median(rates), (high - low) / 2))
    return speeds, contended
