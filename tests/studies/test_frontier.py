"""Speeds of the frontier are relative to the fine-tuned model of the same run."""

import pandas as pd
import pytest

from skip_exp.report.tables import pipe_rows
from studies import frontier


def frame(given: list[tuple], columns: str, **same: object) -> pd.DataFrame:
    rows = pd.DataFrame(given, columns=columns.split())
    fixed = {"mb": 1.0, "commit": "a"} | same
    return rows.assign(**{name: value for name, value in fixed.items() if name not in rows})


def test_speeds_are_relative_within_a_run_on_the_tasks_that_a_method_ran_on() -> None:
    given = [  # the second task's texts are four times as slow
        ("a", frontier.REFERENCE, 100.0, 80.0),
        ("a", "ours, 90% cut", 400.0, 82.0),
        ("a", "paper, 52% cut", 200.0, 70.0),
        ("b", frontier.REFERENCE, 25.0, 60.0),
        ("b", "ours, 90% cut", 225.0, 62.0),
    ]
    rows = frame(given, "task method texts_per_s score", seed=1, processor=frontier.AMD)
    found = frontier.means(rows)
    assert found.loc["ours, 90% cut", "EPYC"] == pytest.approx((4 * 9) ** 0.5)
    lines = {line[0]: line[1:] for line in frontier.table(found)}
    assert lines[frontier.REFERENCE] == ["1.0x", "80.0", "60.0", "1"]
    assert lines["ours, 90% cut"] == ["6.0x", "82.0", "62.0", "1"]
    assert lines["paper, 52% cut"] == ["2.0x", "70.0", "-", "1"]


def test_processors_stand_beside_each_other_and_share_the_scores() -> None:
    given = [
        (1, frontier.AMD, frontier.REFERENCE, 100.0, 80.0),
        (1, frontier.AMD, "ours, 52% cut", 200.0, 70.0),
        (1, frontier.AMD, "ours, 90% cut", 400.0, 60.0),
        (2, frontier.INTEL, frontier.REFERENCE, 10.0, 82.0),
        (2, frontier.INTEL, "ours, 52% cut", 30.0, 72.0),
    ]
    rows = frame(given, "seed processor method texts_per_s score", task="a")
    assert frontier.table(frontier.means(rows)) == [
        ["method", "speed: EPYC, Xeon", "a", "MB"],
        ["---"] * 4,
        [frontier.REFERENCE, "1.0x, 1.0x", "81.0", "1"],
        ["ours, 52% cut", "2.0x, 3.0x", "71.0", "1"],
        ["ours, 90% cut", "4.0x, -", "60.0", "1"],
    ]


def test_the_page_shows_the_rows_of_the_file() -> None:
    lines = pipe_rows(frontier.table(frontier.means(pd.read_csv(frontier.ROWS))))
    assert lines in (frontier.ROOT / "docs/results.md").read_text(encoding="utf-8")


def test_a_reference_that_stands_in_two_runs_counts_once_in_the_scores() -> None:
    given = [(1, "a", 80.0), (1, "b", 80.0), (2, "a", 70.0)]
    same = {"task": "a", "processor": frontier.AMD, "texts_per_s": 1.0}
    rows = frame(given, "seed commit score", method=frontier.REFERENCE, **same)
    assert frontier.means(rows).loc[frontier.REFERENCE, "a"] == 75
