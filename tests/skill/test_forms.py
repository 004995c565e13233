"""The forms of a skill: what is left out, how large each is, and how they are timed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from skip_exp import OnnxSkill, Skill
from skip_exp.errors import SkipError
from skip_exp.skill import forms
from tests.helpers.saved import Saved


@pytest.mark.parametrize("is_fast", [False, True])
def test_a_form_that_runs_badly_or_not_at_all_is_left_out(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*names: str) -> None:
        if not is_fast:
            raise SkipError("not installed")

    monkeypatch.setattr(forms, "multiplies_bf16", lambda: is_fast)
    monkeypatch.setattr(forms, "check_packages", check)
    assert forms.list_forms() == (["fp32", "bf16", "int8"] if is_fast else ["fp32"])


def test_a_skill_is_opened_in_every_form(
    tiny: Saved, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = {form: forms.open_form(form, tiny.folder) for form in ("fp32", "bf16")}
    opened["int8"] = forms.open_form("int8", onnx_folder)
    assert isinstance(opened["int8"], OnnxSkill)
    weights = 4e-6 * sum(p.numel() for p in opened["fp32"].model.parameters())
    assert forms.megabytes(opened["fp32"]) == forms.megabytes(opened["bf16"]) == weights
    assert forms.megabytes(opened["int8"]) > (onnx_folder / "model.onnx").stat().st_size / 1e6

    def refuse(*_: object, **__: object) -> None:
        raise SkipError("its answers differ")

    monkeypatch.setattr(Skill, "export", refuse)
    forms.export_all({tiny.folder: tmp_path / "none"})
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_exports_are_written_side_by_side(tiny: Saved, tmp_path: Path) -> None:
    skills = [shutil.copytree(tiny.folder, tmp_path / name) for name in "ab"]
    folders = {skill: skill.with_suffix(".int8") for skill in skills}
    forms.export_all(folders)
    for skill, folder in folders.items():
        opened = forms.open_form("int8", folder)
        expected = Skill.load(skill).probabilities([["good film"]])
        assert np.allclose(opened.probabilities([["good film"]]), expected, atol=0.05)
    before = [folder.stat().st_mtime_ns for folder in folders.values()]
    forms.export_all(folders)  # they are there
    assert [folder.stat().st_mtime_ns for folder in folders.values()] == before


@pytest.mark.parametrize(("seconds", "count"), [(1e-9, 32), (1e9, 100)])
def test_slow_models_answer_fewer_texts(
    seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time for all turns, the least number of texts; with plenty, all of them."""
    monkeypatch.setattr(forms, "SECONDS", seconds)
    seen: list[int] = []
    speeds, _ = forms.time_in_turns([lambda texts: seen.append(len(texts))], [["a"]] * 100)
    turns = forms.FEWEST_TURNS if count == 32 else forms.MOST_TURNS
    assert seen == [32, 32, *[count] * (1 + turns)]
    assert len(speeds) == 1 and speeds[0].texts > 0
