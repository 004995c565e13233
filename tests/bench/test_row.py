"""When a figure meets what it should reach, exactly at the bounds and beyond."""

import math
from dataclasses import replace

import pytest

from skip_exp.bench.row import Reach, Row, from_plain, to_plain

ROW = Row("forward", "batch 8", ours=2.0, theirs=5.0, unit="ms", ratio=2.5)


@pytest.mark.parametrize(
    ("reach", "met"),
    [
        (None, None),
        (Reach(low=2.5), True),
        (Reach(low=2.51), False),
        (Reach(high=2.5), True),
        (Reach(high=2.49), False),
        (Reach(0.95, 1.05), False),
        (Reach(2.4, 2.6), True),
        (Reach(high=2.0, of="ours"), True),
        (Reach(high=1.9, of="ours"), False),
    ],
)
def test_bounds_are_included(reach: Reach | None, met: bool | None) -> None:
    assert replace(ROW, reach=reach).met is met


@pytest.mark.parametrize("ratio", [None, math.nan])
def test_a_figure_that_is_missing_meets_nothing(ratio: float | None) -> None:
    assert replace(ROW, ratio=ratio, reach=Reach(low=0.0)).met is False


def test_a_contended_figure_is_not_judged() -> None:
    assert replace(ROW, reach=Reach(low=2.5), contended=True).met is None


def test_rows_survive_json() -> None:
    for row in (ROW, replace(ROW, reach=Reach(0.9, 1.1), spread=0.1, contended=True)):
        assert from_plain(to_plain(row)) == row
    assert to_plain(replace(ROW, reach=Reach(low=2.5)))["met"] is True
