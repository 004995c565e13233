"""`skip-exp evaluate`: metrics and confusion of a skill on a file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skip_exp import Skill
from skip_exp.commands.answer import evaluate
from skip_exp.skill.evaluate import score_classes

ROWS = "sentence,label\na dull film,negative\nwarm,positive\nthe plot,negative\n"


def test_scores_for_people_and_machines(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test.csv"
    file.write_text(ROWS)
    assert evaluate([str(saved), str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = Skill.load(saved).evaluate(file)
    del expected["errors"]
    assert found == expected
    assert evaluate([str(saved), str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"accuracy {100 * found['accuracy']:.1f}" in shown
    assert "negative" in shown and "positive" in shown


def test_refusals(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "test.csv"
    file.write_text(ROWS + "cold,none\n")
    for arguments in ([], ["--label", "verdict"], ["--backbone", "./nowhere"]):
        assert evaluate([str(saved), str(file), *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and told.err.count("\n") == 1 and not told.out
    assert evaluate([str(saved), str(file), "--json", "data.drop_bad=true"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3


def test_the_mistakes_are_a_file(saved: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "test.csv", tmp_path / "new/wrong.csv"
    file.write_text(ROWS + '"=bad, bad",positive\nvery good,negative\n')
    assert evaluate([str(saved), str(file), "--errors", str(out)]) == 0
    skill, table = Skill.load(saved), pd.read_csv(out)
    rows = pd.read_csv(file)
    wrong = {}
    for number, (text, label) in enumerate(rows.itertuples(index=False), 1):
        (answer,) = skill.predict([text])
        if answer["label"] != label:
            wrong[number] = (label, answer["label"], max(answer["probabilities"].values()))
    assert 1 < len(wrong) < len(rows)
    assert list(table) == ["row", "sentence", "true", "predicted", "probability"]
    assert table["probability"].is_monotonic_decreasing
    for row, text, *found in table.itertuples(index=False):
        assert text == rows["sentence"][row - 1]
        assert (*found[:2], pytest.approx(found[2], abs=1e-4)) == wrong.pop(row)
    assert not wrong


def test_the_rows_are_not_overwritten_by_the_mistakes(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "test.csv"
    file.write_text(ROWS)
    for name in (str(tmp_path / "x/../test.csv"), str(file), "~/test.csv"):
        with pytest.raises(SystemExit, match="2"):
            evaluate([str(saved), str(file), "--errors", name])
    assert file.read_text() == ROWS


def test_what_is_answered_is_scored(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skill = Skill.load(saved)
    texts, labels = ["a dull film", "warm", "the plot"], ["negative", "positive", "positive"]
    answers = skill.predict(texts)
    sure = sorted(max(answer["probabilities"].values()) for answer in answers)
    (column,) = skill.about.text
    rows = [{column: x, "label": y} for x, y in zip(texts, labels, strict=True)]
    found = skill.evaluate(rows, label="label", reject=sure[1])
    assert found["coverage"] == pytest.approx(2 / 3)
    kept = [i for i, a in enumerate(answers) if max(a["probabilities"].values()) >= sure[1]]
    alone = skill.evaluate([rows[i] for i in kept], label="label")
    assert found["answered"] == {name: alone[name] for name in ("accuracy", "f1_macro")}
    assert found["accuracy"] == skill.evaluate(rows, label="label")["accuracy"]
    nothing = skill.evaluate(rows, label="label", reject=1)
    assert (nothing["coverage"], nothing["answered"]) == (0, {})
    file = tmp_path / "test.csv"
    file.write_text(ROWS)
    assert evaluate([str(saved), str(file), "--reject", "1"]) == 0
    assert "0.0 %" in capsys.readouterr().out


def test_classes_by_hand() -> None:
    # Of a, 2 of 3 rows are right and one answer too many; b has one of two; c has no row.
    true, predicted = np.array([[0, 0, 0, 1, 1], [0, 0, 1, 0, 1]])
    found = score_classes(["a", "b", "c"], true, predicted)
    assert found["a"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    )
    assert found["b"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2})
    assert set(found["c"].values()) == {0}
