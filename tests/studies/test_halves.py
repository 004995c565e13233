"""Half of the train rows score a choice on the other half."""

import json
from pathlib import Path

import pytest

from studies import halves


def test_equal_texts_are_on_one_side_and_no_row_is_lost() -> None:
    lines = [json.dumps({"sentence": f"text  {i % 40}", "label": i % 2}) for i in range(200)]
    one, other = halves.split(lines, "sentence")
    assert sorted(one + other) == sorted(lines)
    sides = [{json.loads(line)["sentence"] for line in half} for half in (one, other)]
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) > 10


def test_folders_swap_the_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task, (column, _) in halves.TASKS.items():
        halves.write(
            tmp_path / "data" / task / "train.jsonl",
            [json.dumps({column: f"text {i}", "label": 0}) for i in range(20)],
        )
    monkeypatch.setenv("SKIP_EXP_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("sys.argv", ["halves", str(tmp_path / "out")])
    assert halves.main() == 0
    for task, (_, reported) in halves.TASKS.items():
        first, second = (tmp_path / "out" / folder / task for folder in ("1", "2"))
        assert (first / "train.jsonl").read_text() == (second / f"{reported}.jsonl").read_text()
        assert (second / "train.jsonl").read_text() == (first / f"{reported}.jsonl").read_text()
