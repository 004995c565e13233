"""Bars for what takes longer than five seconds, on a terminal only; durations as text."""

import math
import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

AFTER = 5  # seconds until a bar appears
LOOK = "{desc} |{bar:30}| {n_fmt} of {total_fmt}, about {remaining} left"

_allowed = False


@contextmanager
def allow_bars(wanted: bool) -> Iterator[None]:
    """Within the block bars are shown, if standard output is a terminal of this process alone."""
    global _allowed
    before = _allowed
    is_joblib_worker = multiprocessing.get_start_method(allow_none=True) == "loky"
    _allowed = wanted and sys.stdout.isatty() and not is_joblib_worker  # they share a terminal
    try:
        yield
    finally:
        _allowed = before


def bar(total: int | None, what: str, items: Iterable[Any] | None = None) -> Any:
    """A bar of ``total`` steps, which iterates ``items`` or has ``update()`` and ``close()``.

    Closed, it leaves no trace.
    """
    return tqdm(
        items,
        total=total,
        desc=what,
        bar_format=LOOK,
        delay=AFTER,
        leave=False,
        dynamic_ncols=True,
        file=sys.stdout,
        disable=not _allowed,
    )


class Counted(list[T]):
    """The items as a list that shows a bar, labelled ``what``, whenever they are iterated."""

    def __init__(self, items: Iterable[T], what: str) -> None:
        super().__init__(items)
        self.what = what

    def __iter__(self) -> Iterator[T]:
        return iter(bar(len(self), self.what, super().__iter__()))


def duration(seconds: float) -> str:
    """``20 s``, ``8 min`` or ``3.0 h``, rounded up."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = seconds / 60
    return f"{math.ceil(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"
