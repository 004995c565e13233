"""The tables, to the letter; when a figure meets what it should reach."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.tables import Reach, Report, Row, from_json, page, to_json

ROOT = Path(__file__).resolve().parents[2]
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


def test_rows_survive_json() -> None:
    rows = (ROW, replace(ROW, reach=Reach(0.9, 1.1), spread=0.1, contended=True))
    assert from_json(json.loads(json.dumps(to_json(rows)))) == rows


def words(text: str) -> list[list[str]]:
    """Lines without what only aligns them."""
    lines = [line.split() for line in text.splitlines()]
    return [line for line in lines if not set("".join(line)) <= set("|- ")]


def test_the_page_in_studies_is_written_from_the_figures_beside_it() -> None:
    content = json.loads((ROOT / "studies" / "bench.json").read_text())
    reports = [
        Report(**report | {"rows": from_json(report["rows"])}) for report in content["comparisons"]
    ]
    expected = (ROOT / "studies" / "bench.md").read_text()
    assert words(page(content["machine"], content["quick"], reports)) == words(expected)
