"""The learning curve, from results with predictions that are worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from skip_exp import results
from skip_exp.commands import train
from skip_exp.report import curve
from skip_exp.results import PREDICTIONS, Result
from tests.helpers.fakes import result, store

WRONG = {25: 60, 50: 40, 100: 20}  # of 200 validation rows, by train rows
ROWS = 200


def jobs(folder: Path, wrong: dict[int, int] = WRONG, rows: int = ROWS) -> list[Result]:
    found = []
    for size, missed in wrong.items():
        final = 1 - missed / rows
        metric = {"name": "accuracy", "final": final}
        fields = {"n_train": size, "metric": metric, "select": {"final": 0.5}, "job_id": str(size)}
        store(folder / str(size), [result(**fields)])
        (job,) = results.load(folder / str(size))
        predicted = [1] * missed + [0] * (rows - missed)
        answers = pd.DataFrame({"label": 0, "predicted": predicted, "probability": 0.9})
        answers.to_csv(Path(str(job.path)).with_name(PREDICTIONS), index=False)
        found.append(job)
    return found


def test_each_doubling_has_its_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curve.show(jobs(tmp_path), tmp_path)
    table = pd.read_csv(tmp_path / curve.CSV)
    assert list(table["rows"]) == [25, 50, 100]
    assert list(table["validation"]) == pytest.approx([0.7, 0.8, 0.9])
    assert list(table["gain"])[1:] == pytest.approx([0.1, 0.1]) and math.isnan(table["gain"][0])
    # The standard error of 90 % of 200 rows is 2.1 points; of 20 rows that only one has right, 2.1.
    last = table.iloc[-1]
    assert 0.84 < last["low"] < 0.87 < 0.93 < last["high"] < 0.96
    assert 0.04 < last["gain_low"] < 0.07 < 0.13 < last["gain_high"] < 0.16
    assert (tmp_path / curve.FIGURE).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert " 90.0 " in printed and " 10.0 " in printed and "likely to help" in printed


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({50: 40, 100: 20}, "are likely"),
        ({50: 20, 100: 40}, "unlikely"),
        ({50: 20, 100: 19}, "do not show"),  # one row of 200
    ],
)
def test_the_interval_decides_what_is_said(
    tmp_path: Path, wrong: dict[int, int], said: str
) -> None:
    assert said in curve.explain(curve.to_frame(jobs(tmp_path, wrong)))


def test_without_predictions_nothing_is_claimed(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    Path(str(found[-1].path)).with_name(PREDICTIONS).unlink()
    frame = curve.to_frame(found)
    assert math.isnan(frame["gain_low"].iloc[-1]) and "do not show" in curve.explain(frame)


def test_the_command_trains_on_half_and_on_a_quarter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = jobs(tmp_path, {20: 60, 40: 40, 81: 20})
    folders = {str(job.n_train): Path(str(job.path)).parent for job in found}
    asked: list[dict[str, Any]] = []

    def fit(file: str, **options: Any) -> SimpleNamespace:
        asked.append({"file": file, **options})
        size = options["overrides"][1].partition("data.train_rows=")[2]
        return SimpleNamespace(folder=folders[size] / "skill")

    monkeypatch.setattr(train.api, "fit", fit)
    train.show_curve("t.csv", {"ratio": "0.7", "overrides": ["seed=2"]}, folders["81"])
    assert [(each["file"], each["ratio"], each["overrides"][0]) for each in asked] == [
        ("t.csv", "0.7", "seed=2")
    ] * 2
    assert list(pd.read_csv(folders["81"] / curve.CSV)["rows"]) == [20, 40, 81]
