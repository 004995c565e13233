"""The tables, to the letter; when a figure meets what it should reach."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from skip_exp.bench.tables import (
    NOTES,
    Reach,
    Report,
    Row,
    cells,
    figure,
    from_json,
    page,
    table,
    to_json,
    write,
)

ROOT = Path(__file__).resolve().parents[2]
ROW = Row("forward", "batch 8", ours=2.0, theirs=5.0, unit="ms", ratio=2.5)

MACHINE = {
    "device": "cpu",
    "processor": "A Chip",
    "cores": 2,
    "threads": 2,
    "versions": {"python": "3.12.1", "torch": "2.13.0"},
}
REPORTS = [
    Report(
        "forward",
        "Final model",
        "Ratio: how many times faster.",
        (
            Row("final", "batch 8", 12.34, 25.0, "ms", 2.03, 0.05, Reach(low=1.87)),
            Row("control", "batch 8", 26.0, 25.0, "ms", 0.9, 0.004, Reach(0.95, 1.05)),
            Row("switching", "a text", 0.4, unit="ms", reach=Reach(high=50.0, of="ours")),
            Row("busy", "batch 1", 1234.0, 2.0, "s", 3.0, reach=Reach(high=4), contended=True),
        ),
        seconds=3.0,
    ),
    Report("served", "Served", "Texts in.", error="peft is not installed"),
    Report("growth", "Growth", "In figures.", (Row("report", "10 results", 0.0, unit="s"),)),
]
EXPECTED = f"""\
# Side by side

Device: cpu; A Chip, 2 cores, 2 threads. python 3.12.1, torch 2.13.0.

{NOTES}

## Final model

Ratio: how many times faster.

| what      | setting | ours    | theirs  | ratio          | reach          | met         |
|-----------|---------|---------|---------|----------------|----------------|-------------|
| final     | batch 8 | 12.3 ms | 25.0 ms | 2.03 ± 0.05    | ≥ 1.87         | yes         |
| control   | batch 8 | 26.0 ms | 25.0 ms | 0.90 ± 4.0e-03 | 0.95 to 1.05   | **no**      |
| switching | a text  | 0.40 ms |         |                | ours ≤ 50.0 ms | yes         |
| busy      | batch 1 | 1,234 s | 2.00 s  | 3.00           | ≤ 4.00         | *contended* |

## Served

Texts in.

**failed**: peft is not installed

## Growth

In figures.

| what   | setting    | ours | theirs | ratio | reach | met |
|--------|------------|------|--------|-------|-------|-----|
| report | 10 results | 0 s  |        |       |       |     |

![Growth](growth.png)
"""


def test_the_markdown(tmp_path: Path) -> None:
    write(tmp_path, MACHINE, False, REPORTS)
    assert (tmp_path / "bench.md").read_text() == EXPECTED
    comparisons = json.loads((tmp_path / "bench.json").read_text())["comparisons"]
    assert [report["error"] for report in comparisons] == [None, "peft is not installed", None]
    assert [row["met"] for row in comparisons[0]["rows"]] == [True, False, True, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_a_quick_run_says_that_it_is_no_result() -> None:
    assert "figures are no result" in page(MACHINE, True, [])
    assert "figures are no result" not in page(MACHINE, False, [])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (1234.5, "1,234"),
        (99.95, "100.0"),
        (-1.5, "-1.50"),
        (0.01, "0.01"),
        (0.00987, "9.9e-03"),
        (3e-9, "3.0e-09"),
    ],
)
def test_figures(value: float | None, text: str) -> None:
    assert figure(value) == text


def words(text: str) -> list[list[str]]:
    """Lines without what only aligns them."""
    lines = [line.split() for line in text.splitlines()]
    return [line for line in lines if not set("".join(line)) <= set("|- ")]


def test_the_page_in_docs_is_of_the_figures_beside_it() -> None:
    content = json.loads((ROOT / "docs" / "bench.json").read_text())
    reports = [
        Report(**report | {"rows": from_json(report["rows"])}) for report in content["comparisons"]
    ]
    expected = (ROOT / "docs" / "bench.md").read_text()
    assert words(page(content["machine"], content["quick"], reports)) == words(expected)


def test_a_narrow_terminal_folds_cells() -> None:
    row = replace(ROW, name="of [bold] names :smile:", setting="a setting of many words " * 4)
    lines = table([row], width=80).splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 80
    assert "of [bold] names :smile:" in table([row])


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
    row = replace(ROW, ratio=ratio, reach=Reach(low=0.0))
    assert row.met is False
    assert cells(row)[-1] == "**no**"


def test_a_contended_figure_is_not_judged() -> None:
    row = replace(ROW, reach=Reach(low=3.0), contended=True)
    assert row.met is None
    assert cells(row)[-1] == "*contended*"


def test_rows_survive_json() -> None:
    rows = (ROW, replace(ROW, reach=Reach(0.9, 1.1), spread=0.1, contended=True))
    assert from_json(json.loads(json.dumps(to_json(rows)))) == rows
