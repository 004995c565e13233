"""Speeds of the frontier are relative to the fine-tuned model of the same run."""

import pandas as pd
import pytest

from skip_exp.report.tables import piped
from studies import frontier


def test_speeds_are_relative_within_a_run() -> None:
    given = [  # the second task's texts are four times as slow
        ("a", frontier.REFERENCE, 100.0, 80.0),
        ("a", "ours, 90% cut", 400.0, 82.0),
        ("b", frontier.REFERENCE, 25.0, 60.0),
        ("b", "ours, 90% cut", 225.0, 62.0),
    ]
    rows = pd.DataFrame(given, columns=["task", "method", "texts_per_s", "score"])
    found = frontier.means(rows.assign(seed=1, mb=1.0))
    assert found.loc["ours, 90% cut", "speed"] == pytest.approx((4 * 9) ** 0.5)
    assert found.loc["ours, 90% cut", "score"] == 72
    assert found.loc[frontier.REFERENCE, "speed"] == pytest.approx(1)
    assert frontier.table(found)[-1][:3] == ["ours, 90% cut", "72.0", "6.0x"]


def test_the_page_shows_the_rows_of_the_file() -> None:
    page = (frontier.ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert piped(frontier.table(frontier.means(pd.read_csv(frontier.ROWS)))) in page
