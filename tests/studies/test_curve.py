"""The learning curve: its rows and its table."""

from pathlib import Path

import pandas as pd
import pytest

from skip_exp.report.tables import pipe_rows
from studies import curve


def test_a_cell_is_a_mean_and_says_which_seeds_are_missing() -> None:
    shared = {"task": "cr", "rows": 100, "method": curve.DENSE}
    every = [
        shared | {"seed": seed, "score": score} for seed, score in enumerate((70.0, 72.0, 74.0))
    ]
    every += [shared | {"rows": 300, "score": 80.0}]
    head, _, *rows = curve.table(pd.DataFrame(every))
    assert head[2:] == ["100 rows", "300 rows"]
    assert rows == [["CR", "dense", "72.0 ± 2.0", "80.0 (1)"]]  # of what has run


def test_a_smaller_draw_is_a_part_of_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "cr").mkdir()
    (folder / "train.jsonl").write_text("".join(f'{{"label": {i}}}\n' for i in range(50)))
    monkeypatch.setenv("SKIP_EXP_DATA", str(tmp_path))
    few, more = (curve.drawn("cr", "train", count, 1) for count in (10, 500))
    assert (len(few), len(more)) == (10, 50)
    assert more[:10] == few


def test_the_page_shows_the_rows_of_the_file() -> None:
    page = (curve.RESULTS.parents[2] / "docs/results.md").read_text(encoding="utf-8")
    assert pipe_rows(curve.table(pd.read_csv(curve.RESULTS))) in page
