"""The evidence's table, and its refusal of a recipe that was not frozen."""

import json
from pathlib import Path

import pandas as pd
import pytest

from skip_exp.cache.version import digest
from skip_exp.report.tables import pipe_rows
from studies import evidence


def test_the_table_has_a_mean_per_group() -> None:
    rows = pd.DataFrame(
        [
            {"task": task, "seed": seed, "ratio": ratio, "metric": "accuracy", "backbone": "minilm"}
            | {"metric/dense": dense, "metric/final": dense - 10 * ratio + seed, "majority": 20.0}
            for task, dense in (("sst2", 90.0), ("cola", 30.0), ("cr", 80.0))
            for seed in (0, 2)
            for ratio in evidence.RATIOS
        ]
    )
    lines = {line[0]: line for line in evidence.table(rows)}
    assert lines["SST-2"][1:3] == ["90.0 ± 0.0", "91.0 ± 1.4 (+1.0)"]
    assert lines["mean, development"][1:3] == ["60.0", "61.0"]
    assert lines["against dense"][2] == "+1.0"  # of two tasks
    kept = (71 / 70 + 11 / 10) / 2  # of what SST-2 and CoLA are above 20
    assert lines["kept of the margin"][1:3] == ["100 %", f"{100 * kept:.0f} %"]
    assert "mean, confirmation" not in lines  # of one task
    assert lines["CR"][-1] == "71.5 ± 1.4 (-8.5)"


def test_a_change_is_from_the_dense_models_of_the_same_seeds() -> None:
    job = {"task": "cr", "backbone": "minilm", "majority": 50.0}
    jobs = [
        {"seed": 1, "ratio": 0.52, "metric/dense": 80.0, "metric/final": 79.0},
        {"seed": 1, "ratio": 0.9, "metric/dense": 80.0, "metric/final": 76.0},
        {"seed": 2, "ratio": 0.9, "metric/dense": 90.0, "metric/final": 88.0},
    ]
    line = evidence.table(pd.DataFrame([job | each for each in jobs]))[-1]
    expected = ["85.0 ± 7.1", "-", "79.0 (-1.0)", "-", "82.0 ± 8.5 (-3.0)", "-"]
    assert line == ["CR", *expected]


def test_three_tasks_have_an_interval() -> None:
    means = pd.DataFrame({"dense": [80.0, 70.0, 60.0], "90 %": [79.0, 68.0, 57.0]}, index=[*"abc"])
    dense = pd.DataFrame(dict.fromkeys(means, means["dense"]))
    lines = evidence.summary("x", means, dense, pd.Series({"a": 50.0, "b": 50.0, "c": 50.0}))
    assert lines[1][2] == "-2.0 (-4.5 to +0.5)"  # 2 ± 4.303 / sqrt(3)
    assert lines[2][1:] == ["100 %", f"{100 * (29 / 30 + 18 / 20 + 7 / 10) / 3:.0f} %"]


def test_another_backbone_has_a_row_a_task() -> None:
    job = {"task": "cr", "backbone": "t5_mini", "metric/dense": 70.0}
    jobs = [
        {**job, "seed": seed, "ratio": ratio, "metric/final": 70 - 10 * ratio + seed}
        for seed in (0, 2)
        for ratio in (0, 0.5, 0.52, 0.9)
    ]
    alone = {**jobs[3], "task": "mrpc"}  # one seed, one ratio
    rows = pd.DataFrame([*jobs, alone, {**jobs[0], "backbone": "minilm"}])
    many, few = evidence.others(rows)[2:]
    assert many == ["t5_mini", "CR", "70.0 ± 0.0", "71.0 ± 1.4", "65.8 ± 1.4", "62.0 ± 1.4"]
    assert few == ["t5_mini", "MRPC", "70.0", "-", "-", "61.0"]


def test_the_page_shows_the_rows_of_the_file() -> None:
    page = (evidence.HERE.parent / "docs/results.md").read_text(encoding="utf-8")
    earlier = pd.read_csv(evidence.RESULTS / "lowrank.csv")
    now = evidence.table(pd.read_csv(evidence.RESULTS / "default.csv"))
    for table in (now, evidence.table(earlier), evidence.others(earlier)):
        assert pipe_rows(table) in page


def test_a_confirmation_needs_the_frozen_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "strong.json"
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    with pytest.raises(SystemExit):
        evidence.check_frozen("strong")
    frozen = {"commit": "abc", "hash": digest(evidence.read_recipe("strong"))}
    path.write_text(json.dumps(frozen))
    evidence.check_frozen("strong")
    path.write_text(json.dumps(frozen | {"hash": "other"}))
    with pytest.raises(SystemExit):
        evidence.check_frozen("strong")


def test_a_recipe_is_the_settings_without_the_ratio() -> None:
    recipe = evidence.read_recipe("strong")
    assert recipe.keys() == {*evidence.GROUPS}
    assert recipe["tune"]["train"] == recipe["retune"]["train"] == "layers"
    assert "ratio" not in recipe["prune"]
