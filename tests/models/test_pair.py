"""``backbone.pooling=pair``: a head that reads both texts, from training to every export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from skip_exp import OnnxSkill, Skill
from skip_exp.commands.export import main
from skip_exp.data.batches import collate
from skip_exp.errors import ConfigError
from skip_exp.models.backbones import load_backbone
from skip_exp.models.readouts.base import Encoded
from skip_exp.models.readouts.head import HeadReadout
from skip_exp.skill.classifier import encode_texts
from skip_exp.skill.export.huggingface.convert import to_huggingface
from tests.helpers.saved import Saved, save_tiny_skill, tokenizer
from tests.helpers.tiny import HIDDEN, tiny_model

SEPARATOR = 9
PAIRS = [["a warm film", "dull"], ["w1 w2 w3", "the plot was long"], ["", "bad"], ["good", ""]]
CASES = [("bert", "prefix"), ("bert", "input"), ("roberta", "prefix"), ("t5", "input")]


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    load_backbone.cache_clear()
    yield
    load_backbone.cache_clear()


def saved_pair(root: Path, kind: str, prompt: str) -> Saved:
    return save_tiny_skill(root, kind, prompt, text=("first", "second"), pooling="pair")


def read(hidden: list[list[float]], mask: list[int], ids: list[int], virtual: int) -> list[float]:
    """What the head reads of one text."""
    readout = HeadReadout(len(hidden[0]), 4 * len(hidden[0]), "pair", SEPARATOR)
    with torch.no_grad():
        readout.linear.weight.copy_(torch.eye(4 * len(hidden[0])))
        encoded = Encoded(
            torch.tensor([hidden]), torch.tensor([mask]), virtual, torch.tensor([ids])
        )
        found: list[float] = readout(None, None, encoded)[0].tolist()
    return found


def test_by_hand() -> None:
    """Means of 1, 3, 2 and of 4, 8 and of their second dims: prompt and padding do not count."""
    hidden = [[99.0, 9.0], [1.0, 0.0], [3.0, 3.0], [2.0, 0.0], [4.0, -1.0], [8.0, 5.0], [7.0, 7.0]]
    found = read(hidden, [1, 1, 1, 1, 1, 1, 0], [1, 5, SEPARATOR, 6, SEPARATOR, 0], virtual=1)
    assert found == [2.0, 1.0, 6.0, 2.0, 4.0, 1.0, 12.0, 2.0]


def test_without_a_second_text_its_mean_is_zero() -> None:
    assert read([[2.0], [4.0]], [1, 1], [5, SEPARATOR], virtual=0) == [3.0, 0.0, 3.0, 0.0]


@pytest.mark.parametrize("family", ["bert", "roberta", "t5"])
def test_the_second_text_is_the_tokenizers_own(family: str) -> None:
    """What stands behind the first separator: for BERT, token type 1."""
    words = tokenizer(family)
    head = HeadReadout.build(tiny_model(family).backbone, words, 2, (), "pair")
    for row in encode_texts(words, PAIRS, 24):
        ends = [i for i, token in enumerate(row["input_ids"]) if token == head.separator]
        second = [int(i > ends[0]) for i in range(len(row["input_ids"]))]
        assert second == row.get("token_type_ids", second)
    assert [words.decode(head.separator)] == [{"bert": "[SEP]"}.get(family, "</s>")]


def test_a_tokenizer_that_sets_nothing_between_texts_is_refused() -> None:
    words = tokenizer("bert")
    words.backend_tokenizer.post_processor = processors.TemplateProcessing("$A", "$A $B:1", [])
    with pytest.raises(ConfigError, match=r"^backbone\.pooling=pair: the tokenizer sets no token"):
        HeadReadout.build(tiny_model().backbone, words, 2, (), "pair")


def logits(model: Any, skill: Skill) -> torch.Tensor:
    rows = encode_texts(skill.tokenizer, PAIRS, 24)
    with torch.no_grad():
        found = model(**collate(rows, skill.tokenizer.pad_token_id))
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.parametrize(("kind", "prompt"), CASES)
def test_the_skill_and_its_exports_answer_alike(tmp_path: Path, kind: str, prompt: str) -> None:
    saved = saved_pair(tmp_path, kind, prompt)
    skill = Skill.load(saved.folder)
    assert skill.model.readout.linear.in_features == 4 * HIDDEN
    expected = logits(saved.model, skill)
    torch.testing.assert_close(logits(skill.model, skill), expected)
    torch.testing.assert_close(
        logits(to_huggingface(skill.model, ["a", "b"]), skill), expected, atol=1e-5, rtol=1e-5
    )
    assert main([str(saved.folder), str(tmp_path / "out")]) == 0
    for file in saved.backbone.iterdir():
        file.unlink()
    load_backbone.cache_clear()
    torch.testing.assert_close(logits(Skill.load(tmp_path / "out").model, skill), expected)


def test_which_text_a_word_stands_in_counts(tmp_path: Path) -> None:
    skill = Skill.load(saved_pair(tmp_path, "roberta", "prefix").folder)
    one, other = skill.predict([["a good", "film"], ["a", "good film"]])
    assert abs(one["probabilities"]["positive"] - other["probabilities"]["positive"]) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "prompt"), CASES[1:3])
def test_as_onnx(tmp_path: Path, kind: str, prompt: str) -> None:
    pytest.importorskip("onnxruntime")
    saved, out = saved_pair(tmp_path, kind, prompt), tmp_path / "out"
    assert main([str(saved.folder), str(out), "--format", "onnx"]) == 0
    expected = Skill.load(saved.folder).predict(PAIRS)
    for ours, theirs in zip(OnnxSkill.load(out).predict(PAIRS), expected, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)
