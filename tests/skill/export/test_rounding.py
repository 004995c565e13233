"""8 bits are compared with fp32 on the job's own rows, and refused where they cost too much."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skip_exp import OnnxSkill, Skill, results
from skip_exp.commands.export import main
from skip_exp.errors import SkipError
from skip_exp.forms import registry
from skip_exp.forms.registry import FORMS
from skip_exp.outcomes.registry import OUTCOMES
from skip_exp.skill.export.onnx import write
from skip_exp.skill.export.onnx.write import Rounding, compare_rounded
from tests.helpers.saved import WORDS, Saved, tell

ROWS = [" ".join(np.random.default_rng(i).choice(WORDS, 2 + i % 9)) for i in range(400)]


@pytest.fixture
def saved(tiny: Saved, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A skill beside the result of its job, whose rows have the labels that the skill gives.

    Its exports copy the graph that was traced before.
    """
    folder = shutil.copytree(tiny.folder, tmp_path / "skill")
    given = [answer["label"] for answer in Skill.load(folder).predict(ROWS)]
    assert {*given} == {"negative"}
    given[0] = "positive"  # of train: every label has a row
    lines = [f"{text},{label}" for text, label in zip(ROWS, given, strict=True)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["sentence,label", *lines]))
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "validation")}
    task = {"name": "toy", "text": ["sentence"], "labels": tiny.about.labels, "files": files}
    job: Any = {"skill": "skill", "config": {"task": task | {"metrics": ["accuracy"]}}}
    results.write(tmp_path, results.Result(**job, metric={}, seed=1))
    tell(replace(tiny, folder=folder), data=f"local:{tmp_path}")
    traced = onnx_folder / "model.onnx"
    monkeypatch.setattr(write, "to_onnx", lambda model, batch, path, _: shutil.copy(traced, path))
    return folder


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


def test_an_export_tells_what_it_costs(saved: Path, tmp_path: Path, capsys: Any) -> None:
    assert main([str(saved), str(tmp_path / "out"), "--format", "onnx", "--int8"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert "in fp32 100.0" in said and "40 rows" in said
    assert said.removeprefix("8 bits: ") in (tmp_path / "out/README.md").read_text()


def test_the_export_of_a_search_is_reused_and_checked(
    saved: Path, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Of the same skill, by the same code; a cut vocabulary is traced."""
    asked, traced = [str(saved), "--format", "onnx", "--int8"], list[str]()
    monkeypatch.setattr(write, "to_onnx", lambda *_: traced.append("again") or 1 / 0)
    searched = tmp_path / f"forms/int8/0.9-{FORMS['int8'].name_files(saved)}"
    shutil.copytree(onnx_folder, searched)
    assert main([*asked, str(tmp_path / "out")]) == 0
    assert "in fp32 100.0" in (tmp_path / "out/README.md").read_text()
    graphs = [folder / "model.onnx" for folder in (tmp_path / "out", searched)]
    assert graphs[0].read_bytes() == graphs[1].read_bytes()
    texts = ROWS[:3]
    assert OnnxSkill.load(tmp_path / "out").predict(texts) == OnnxSkill.load(searched).predict(
        texts
    )
    with monkeypatch.context() as other:
        other.setattr(registry, "code_of", lambda _: "edited")
        with pytest.raises(ZeroDivisionError):
            main([*asked, str(tmp_path / "other")])
    with pytest.raises(ZeroDivisionError):
        main([*asked, str(tmp_path / "cut"), "--vocabulary", "train"])
    monkeypatch.setattr(write.OnnxSkill, "load", lambda _: Fixed(*[1.0] * 40))
    assert main([*asked, str(tmp_path / "wrong")]) == 2 and not (tmp_path / "wrong").exists()


def test_what_costs_too_much_is_not_written(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Fixed(*[1.0] * 40)
    monkeypatch.setattr(write.OnnxSkill, "load", lambda _: wrong)
    with pytest.raises(SkipError, match="--int8: accuracy"):
        Skill.load(saved).export(tmp_path / "out", "onnx", int8=True)
    assert not (tmp_path / "out").exists()
