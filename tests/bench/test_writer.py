"""The tables, to the letter."""

import json
from pathlib import Path

import pytest

from skip_exp.bench import writer
from skip_exp.bench.row import Reach, Report, Row

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

{writer.NOTES}

## Final model

Ratio: how many times faster.

| what | setting | ours | theirs | ratio | reach | met |
| --- | --- | --- | --- | --- | --- | --- |
| final | batch 8 | 12.3 ms | 25.0 ms | 2.03 ± 0.05 | ≥ 1.87 | yes |
| control | batch 8 | 26.0 ms | 25.0 ms | 0.90 ± 4.0e-03 | 0.95 to 1.05 | **no** |
| switching | a text | 0.40 ms |  |  | ours ≤ 50.0 ms | yes |
| busy | batch 1 | 1,234 s | 2.00 s | 3.00 | ≤ 4.00 | *contended* |

## Served

Texts in.

**failed**: peft is not installed

## Growth

In figures.

| what | setting | ours | theirs | ratio | reach | met |
| --- | --- | --- | --- | --- | --- | --- |
| report | 10 results | 0 s |  |  |  |  |

![Growth](growth.png)
"""


def test_the_markdown(tmp_path: Path) -> None:
    writer.write(tmp_path, MACHINE, False, REPORTS)
    assert (tmp_path / "bench.md").read_text() == EXPECTED
    found = json.loads((tmp_path / "bench.json").read_text())
    assert [each["error"] for each in found["comparisons"]] == [None, "peft is not installed", None]
    assert [row["met"] for row in found["comparisons"][0]["rows"]] == [True, False, True, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_a_quick_run_says_that_it_is_no_result() -> None:
    assert "figures are no result" in writer.to_markdown(MACHINE, True, [])
    assert "figures are no result" not in writer.to_markdown(MACHINE, False, [])


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
    assert writer.figure(value) == text
