"""Tokens: those that a prompt starts from, and label words that no answer could tell apart."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from skip_exp.backbones.load import word_pieces
from skip_exp.errors import ConfigError, DataError
from skip_exp.models.families import FAMILIES
from skip_exp.phases.build import new_prompt, start_ids
from tests.helpers import tokenizers
from tests.helpers.tiny import tiny_backbone


def start(length: int, counts: Tensor, seed: int = 0) -> list[int]:
    return start_ids(tokenizer(), length, seed, counts).tolist()


def tokenizer() -> PreTrainedTokenizerFast:
    """[PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then a = 5 to f = 10."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = {word: i for i, word in enumerate([*special, *"abcdef"])}
    words = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=words, **dict(zip(roles, special, strict=True)))


def test_rows_of_unknown_words_are_refused() -> None:
    with pytest.raises(DataError):
        start(3, torch.tensor([0, 9, 9, 9, 0, 0, 0, 0, 0, 0]))


def test_words_of_the_rows_are_drawn_and_no_others() -> None:
    counts = torch.tensor([9, 9, 9, 9, 9, 0, 3, 0, 2, 7])
    for seed in range(50):
        drawn = start(3, counts, seed)
        assert sorted(drawn) == [6, 8, 9]  # never special tokens, never what no row contains
        assert drawn == start(3, counts, seed)
    repeated = start(7, counts)  # there are fewer words than that
    assert set(repeated) == {6, 8, 9} and repeated[:3] * 2 == repeated[:6]


def test_frequent_words_are_drawn_more_often() -> None:
    counts = torch.tensor([0, 0, 0, 0, 0, 90, 10])
    first = [start(1, counts, seed)[0] for seed in range(300)]
    assert 0.8 < first.count(5) / 300 < 0.98  # 0.9 expected, four standard errors to each side


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizers.tokenizer("WordPiece")


def test_each_word_has_its_tokens(words: Any) -> None:
    assert word_pieces(words, ("a", "ball")) == [
        words.convert_tokens_to_ids(words.tokenize(word)) for word in ("a", "ball")
    ]


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (("a", "ball", "A"), "task.words=A: "),
        (("a", "ball", "a"), "task.words=a: "),
        (("a ball", "a"), "task.words=a ball: "),
        (("a", "☃"), "task.words=☃: "),
        (("a", " "), "task.words= : "),
    ],
)
def test_words_of_equal_or_of_no_tokens(words: Any, given: tuple[str, ...], refused: str) -> None:
    with pytest.raises(ConfigError) as error:
        word_pieces(words, given)
    assert str(error.value).startswith(refused)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_silent_prefix_only_takes_attention_away(kind: str) -> None:
    """Its keys are those of real tokens, its values zero."""
    family = FAMILIES[kind]
    backbone = family.prepare(tiny_backbone(kind))
    ids = torch.tensor([20, 21, 22])
    loud, found = (
        new_prompt("prefix", backbone, family, ids, silent=silent) for silent in (False, True)
    )
    for ours, theirs in zip(found.keys, loud.keys, strict=True):
        assert torch.equal(ours, theirs) and bool(ours.any())
    assert not any(bool(values.any()) for values in found.values)
    assert all(bool(values.any()) for values in loud.values)
