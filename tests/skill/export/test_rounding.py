"""8 bits are compared with fp32 on the job's own rows, and refused where they cost too much."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skip_exp import Skill, results
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.outcomes.registry import OUTCOMES
from skip_exp.skill.export.onnx.write import Rounding, compare_rounded
from skip_exp.skill.ranges import measure_ranges
from tests.helpers.saved import WORDS, Saved, save_tiny_skill, tell

ROWS = [" ".join(np.random.default_rng(i).choice(WORDS, 2 + i % 9)) for i in range(400)]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A skill beside the result of its job, whose rows have the labels that the skill gives."""
    made = save_tiny_skill(tmp_path, seed=5)
    given = Skill.load(made.folder).predict(ROWS)
    lines = [f"{text},{answer['label']}" for text, answer in zip(ROWS, given, strict=True)]
    assert len({answer["label"] for answer in given}) == 2
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["sentence,label", *lines]))
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "validation")}
    task = {"name": "toy", "text": ["sentence"], "labels": made.about.labels, "files": files}
    job: Any = {"skill": "skill", "config": {"task": task | {"metrics": ["accuracy"]}}}
    results.write(tmp_path, results.Result(**job, metric={}, seed=1))
    tell(made, data=f"local:{tmp_path}")
    return made


class Fixed:
    """A classifier with these probabilities."""

    about = SimpleNamespace(outcome=OUTCOMES["one_label"], threshold=None)

    def __init__(self, *answers: float) -> None:
        self.answers = answers

    def probabilities(self, texts: list[list[str]]) -> list[list[float]]:
        return [[1 - each, each] for each in self.answers]


def test_small_numbers() -> None:
    spec: Any = SimpleNamespace(metrics=["accuracy"], outcome=OUTCOMES["one_label"])
    rows: Any = [{"texts": ["a"], "label": label} for label in (0, 1, 1, 1)]
    plain, rounded = Fixed(0.1, 0.9, 0.6, 0.2), Fixed(0.1, 0.8, 0.4, 0.3)
    found = compare_rounded(plain, rounded, spec, rows)  # type: ignore[arg-type]
    assert (found.rows, found.before, found.after, found.equal) == (4, 0.75, 0.5, 0.75)
    assert found.drift == pytest.approx((0 + 0.1 + 0.2 + 0.1) / 4)


@pytest.mark.parametrize(
    ("rows", "lost", "changed", "allowed"),
    [(1000, 5, 5, True), (1000, 9, 11, False), (100, 1, 1, True), (100, 4, 4, False)],
)
def test_a_loss_counts_beyond_its_standard_error(
    rows: int, lost: int, changed: int, allowed: bool
) -> None:
    found = Rounding("accuracy", rows, 0.9, 0.9 - lost / rows, 1 - changed / rows, 0.01)
    assert found.is_allowed == allowed


@pytest.mark.usefixtures("onnx_packages")
def test_an_export_tells_what_it_costs(saved: Saved, tmp_path: Path, capsys: Any) -> None:
    assert main([str(saved.folder), str(tmp_path / "out"), "--format", "onnx", "--int8"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert "in fp32 100.0" in said and "40 rows" in said
    assert said.removeprefix("8 bits: ") in (tmp_path / "out/README.md").read_text()


@pytest.mark.usefixtures("onnx_packages")
def test_what_costs_too_much_is_not_written(saved: Saved, tmp_path: Path) -> None:
    skill = Skill.load(saved.folder)
    rows = [{"input_ids": [12, 13, 14]}]
    ranges = measure_ranges(skill.model, rows, skill.tokenizer.pad_token_id)
    broken = replace(skill, ranges={name: each / 1000 for name, each in ranges.items()})
    with pytest.raises(SkipError, match="--int8: accuracy"):
        broken.export(tmp_path / "out", "onnx", int8=True)
    assert not (tmp_path / "out").exists()
