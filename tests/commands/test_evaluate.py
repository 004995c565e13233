"""`skip-exp evaluate`: metrics and confusion of a skill on a file."""

import json
from pathlib import Path

import pytest

from skip_exp import Skill
from skip_exp.commands import evaluate
from tests.helpers.saved import save_tiny_skill

ROWS = "sentence,label\na dull film,negative\nwarm,positive\nthe plot,negative\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_skill(tmp_path_factory.mktemp("saved")).folder


def test_scores_for_people_and_machines(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test.csv"
    file.write_text(ROWS)
    assert evaluate.main([str(saved), str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == Skill.load(saved).evaluate(file)
    assert evaluate.main([str(saved), str(file)]) == 0
    shown = capsys.readouterr().out
    assert f"accuracy {100 * found['accuracy']:.1f}" in shown
    assert "negative" in shown and "positive" in shown


def test_refusals(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "test.csv"
    file.write_text(ROWS + "cold,none\n")
    for arguments in ([], ["--label", "verdict"], ["--backbone", "./nowhere"]):
        assert evaluate.main([str(saved), str(file), *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ") and told.err.count("\n") == 1 and not told.out
    assert evaluate.main([str(saved), str(file), "--drop-bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3


def test_many_labels_are_listed_as_mistakes() -> None:
    counts = {str(i): {str(j): int(j == i + 1) for j in range(20)} for i in range(20)}
    assert evaluate.mistakes(counts).row_count == 19
    assert evaluate.matrix(counts).row_count == 20
