"""The probabilities of a text depend neither on its neighbours in a batch nor on padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skip_exp import OnnxSkill, Skill
from skip_exp.data.batches import collate, pad
from skip_exp.skill.classifier import Classifier
from tests.helpers.saved import WORDS, save_tiny_skill
from tests.helpers.tiny import KINDS, READOUT

pytestmark = pytest.mark.property

EXACT = 2e-6  # sums in another order
ROUNDED = 1e-3  # a value between two integers may fall to either side
TEXTS = st.lists(st.sampled_from([*WORDS, "w30", "odd", "[SEP]"]), max_size=30).map(" ".join)
BATCHES = st.lists(TEXTS, min_size=2, max_size=8)
FORMS = ("fp32", "int8")


@pytest.fixture(scope="module", params=KINDS)
def skill(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Skill:
    kind = request.param
    root = tmp_path_factory.mktemp(kind)
    return Skill.load(save_tiny_skill(root, kind, readout=READOUT[kind]).folder)


@pytest.fixture(scope="module", params=FORMS)
def export(
    request: Any, onnx_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[OnnxSkill, str]:
    root = tmp_path_factory.mktemp(request.param)
    out: Path = root / "out"
    skill = Skill.load(save_tiny_skill(root, vanish=False).folder)
    skill.export(out, "onnx", int8=request.param == "int8")
    return OnnxSkill.load(out), request.param


def check_neighbours(classifier: Classifier, texts: list[str], tolerance: float) -> None:
    together = classifier.probabilities([[text] for text in texts])
    for text, answer in zip(texts, together, strict=True):
        alone = classifier.probabilities([[text]])[0]
        assert np.abs(np.subtract(alone, answer)).max() <= tolerance


@given(texts=BATCHES, width=st.integers(1, 40))
def test_a_skill_answers_a_text_alone_as_in_a_batch(
    skill: Skill, texts: list[str], width: int
) -> None:
    check_neighbours(skill, texts, EXACT)
    rows = skill.encode([[text] for text in texts])
    pad_id = skill.tokenizer.pad_token_id
    with torch.inference_mode():
        expected = skill.model(**collate(rows, pad_id))
        wider = skill.model(**collate(rows, pad_id, width, 40))
    torch.testing.assert_close(wider, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow  # exports
@given(texts=BATCHES, width=st.integers(1, 40))
def test_an_onnx_export_answers_a_text_alone_as_in_a_batch(
    export: tuple[OnnxSkill, str], texts: list[str], width: int
) -> None:
    onnx, form = export
    tolerance = ROUNDED if form == "int8" else EXACT
    check_neighbours(onnx, texts, tolerance)
    rows = onnx.encode([[text] for text in texts])
    wider = onnx.about.outcome.probabilities(onnx.run(pad(rows, onnx.pad_id, width, 40)))
    expected = onnx.answer(rows)
    assert np.abs(np.subtract(wider, expected)).max() <= tolerance
