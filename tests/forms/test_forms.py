"""The forms of a skill: where each is available, what it writes, opens, and how large it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skip_exp import OnnxSkill, Skill
from skip_exp.commands.answer import open_classifier
from skip_exp.errors import SkipError
from skip_exp.forms import registry
from skip_exp.forms.registry import FORMS, Form, list_available
from skip_exp.skill.classifier import Classifier
from tests.helpers.saved import Saved

TEXTS = [["a warm film"], ["dull"]]


@pytest.fixture
def skill(tiny: Saved) -> Skill:
    return Skill.load(tiny.folder)


@pytest.mark.parametrize("is_fast", [False, True])
def test_a_form_that_runs_badly_or_not_at_all_is_left_out(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*names: str) -> None:
        if not is_fast:
            raise SkipError("not installed")

    monkeypatch.setattr(registry, "multiplies_bf16", lambda: is_fast)
    monkeypatch.setattr(registry, "check_packages", check)
    found = {form.name for form in list_available()}
    assert found == FORMS.keys() - (set() if is_fast else {"bf16", "int8"})


def reopen(form: Form, skill: Skill, folder: Path) -> Classifier:
    """The skill in this form; a copy of it answers alike, as does what ``predict`` opens there."""
    opened = form.open(form.save(skill, folder / "form"))
    expected = opened.probabilities(TEXTS)
    again = form.open(opened.save(folder / "copy"))
    assert again.probabilities(TEXTS) == expected
    predicts = open_classifier(folder / "copy", None, form.precision)
    assert np.allclose(predicts.probabilities(TEXTS), expected, atol=1e-6)
    assert np.allclose(skill.probabilities(TEXTS), expected, atol=0.05)
    return opened


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_torch_opens_the_skill_itself(
    name: str, dtype: torch.dtype, skill: Skill, tmp_path: Path
) -> None:
    opened = reopen(FORMS[name], skill, tmp_path)
    assert isinstance(opened, Skill) and not (tmp_path / "form").exists()
    assert {p.dtype for p in opened.model.backbone.parameters()} == {dtype}
    assert opened.megabytes == 4e-6 * sum(p.numel() for p in opened.model.parameters())


def test_an_export_is_written_once(
    skill: Skill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def export(self: Skill, folder: Path, format: str, *, int8: bool, **_: bool) -> None:
        written.append((folder, format, int8))
        folder.mkdir()

    monkeypatch.setattr(Skill, "export", export)
    for _ in range(2):
        assert FORMS["int8"].save(skill, tmp_path / "form") == tmp_path / "form"
    assert written == [(tmp_path / "form", "onnx", True)]


@pytest.mark.slow  # an export
def test_an_export_has_eight_bits(onnx_packages: None, skill: Skill, tmp_path: Path) -> None:
    opened = reopen(FORMS["int8"], skill, tmp_path)
    assert isinstance(opened, OnnxSkill) and opened.about.int8
    assert opened.megabytes > (tmp_path / "form/model.onnx").stat().st_size / 1e6
