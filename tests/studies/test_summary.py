"""Summaries of rows per job, by hand-worked numbers, and what is published."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from studies import summary

RESULTS = summary.RESULTS


def row(task: str = "sst2", seed: int = 1, final: float = 80.0, **fields: Any) -> dict[str, Any]:
    given = {"backbone": "minilm", "ratio": 0.9, "recipe": "default", "setting": ""}
    given |= {"dense": 85.0, "pruned": 60.0, "select": 80.0, "all_removed": 42.0}
    return given | {"task": task, "seed": seed, "final": final, "metric": "accuracy"} | fields


def test_drops_are_means_over_tasks_of_means_over_seeds() -> None:
    again = {"recipe": "dense_continued", "ratio": 0.0}
    rows = [
        *(row(seed=1, final=80.0), row(seed=2, final=84.0), row("cola", final=82.0)),
        *(row(seed=1, final=84.0, **again), row(seed=2, final=84.0, **again)),
        row("cola", final=80.0, **again),
    ]
    dense, continued = summary.drops(pd.DataFrame(rows)).to_dict("records")
    # Against dense 3 on both tasks; against dense_continued 2 on sst2 and -2 on cola.
    assert (dense["against"], dense["mean"], dense["low"], dense["high"]) == ("dense", 3, 3, 3)
    assert (continued["mean"], continued["pairs"]) == (0, 3)
    # t(0.975, 1) = 12.7062; standard error 2.
    assert (continued["low"], continued["high"]) == (-25.41, 25.41)
    assert continued["by_task"] == "cola -2.0, sst2 +2.0"


def test_baselines_are_paired_by_task_and_seed() -> None:
    random = {"recipe": "random"}
    rows = [row(), row("cola"), row("cola", seed=2, final=10.0)]
    rows += [row(final=79.0, **random), row("cola", final=77.0, **random)]
    whole = {"recipe": "fine-tuning", "ratio": 0.0, "setting": "1e-4"}
    rows += [row(final=90.0, **whole), row("cola", final=88.0, **whole)]
    found = summary.differences(pd.DataFrame(rows)).set_index("baseline")
    assert found["mean"].to_dict() == {"fine-tuning": 9.0, "random": -2.0}
    assert found["pairs"].to_dict() == {"fine-tuning": 2, "random": 2}


def test_a_rate_is_chosen_on_select_by_the_seeds_that_all_rates_have() -> None:
    rows = [
        row(setting="a", select=80.0, final=1.0),
        row(setting="b", select=81.0, final=2.0),
        row(setting="a", seed=2, select=99.0, final=3.0),  # the other rate lacks this seed
    ]
    assert summary.best_setting(pd.DataFrame(rows))["final"].tolist() == [2.0]


def test_means_over_seeds() -> None:
    found = summary.tasks(pd.DataFrame([row(final=80.0), row(seed=2, final=82.0)])).iloc[0]
    assert (found["final"], found["final_std"], found["seeds"]) == (81.0, 1.41, 2)


@pytest.mark.parametrize("name", ["evidence", "baselines", "compress"])
def test_every_row_is_a_job_with_its_commit(name: str) -> None:
    rows = pd.read_csv(RESULTS / f"{name}.csv")
    assert rows["job"].is_unique and rows["commit"].str.fullmatch("[0-9a-f]{40}(-dirty)?").all()


def test_the_published_summaries_are_those_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("evidence.csv", "baselines.csv", "compress.csv"):
        (tmp_path / file).write_bytes((RESULTS / file).read_bytes())
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    assert summary.main() == 0
    for name in ("tasks.csv", "drops.csv", "differences.csv"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text()


def test_every_speed_up_has_a_file_with_its_rows_or_says_that_there_is_none() -> None:
    for source in pd.read_csv(RESULTS.parent / "speedups.csv")["source"]:
        assert source == "rows not kept" or (RESULTS.parent / source).is_file()
