import logging
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from skip_exp.backbones.embedded import find_embedded_folder
from skip_exp.backbones.load import load_backbone
from skip_exp.data.augment import NEAR, copies_of, near_words, whole_words, word_tokens
from skip_exp.data.batches import UNLABELLED, answer_all, batch_by_length, collate, tokenize
from skip_exp.data.module import encode
from skip_exp.data.rows import Rows

from .conftest import spec


def labelled(*texts: list[str]) -> list[dict[str, Any]]:
    """Rows of these texts, two of a label after each other."""
    return [{"texts": each, "label": i // 2 % 2} for i, each in enumerate(texts)]


def raw(*train: list[str]) -> Rows:
    return Rows(
        spec=spec(extra=["more"]),
        train=labelled(*train),
        select=labelled(["f"] * len(train[0])),
        validation=labelled(["a"] * len(train[0])),
        extra={"more": labelled(["b"] * len(train[0]))},
        source="local:here",
        fingerprint="abc",
    )


def test_rows_gain_token_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = raw(["a"], ["a b"])
    encoded = encode(rows, tokenizer, 16)
    tokens = {"input_ids": [2, 4, 5, 3], "token_type_ids": [0] * 4}
    assert encoded.train[1] == {"texts": ["a b"], "label": 0, **tokens}
    found = [encoded.select, encoded.validation, encoded.extra["more"]]
    assert [each["input_ids"] for (each,) in found] == [[2, 9, 3], [2, 4, 3], [2, 5, 3]]
    assert "input_ids" not in rows.train[1]


def test_a_pair_is_one_input_with_token_types(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode(raw(["a b", "f"]), tokenizer, 16).train[0]
    assert row["input_ids"] == [2, 4, 5, 3, 9, 3]
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_truncation_is_counted_per_split_and_logged(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    encoded = encode(raw(["a b c"], ["a b c d"], ["a b c d e"]), tokenizer, 5)
    assert encoded.train[2]["input_ids"] == [2, 4, 5, 6, 3]
    assert [record.args for record in caplog.records] == [(2, 3, "train", 5)]
    pair = encode(raw(["a b c d e", "f"]), tokenizer, 6).train[0]  # longest first
    assert pair["input_ids"] == [2, 4, 5, 3, 9, 3]


def test_both_kinds_of_tokenizers_give_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [["a b c d"], ["e"]] * 600  # more than a chunk
    found = tokenize(tokenizer, texts, 5)
    alone = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    alone.enable_truncation(5)
    assert tokenize(alone, texts, 5) == found
    assert (len(found[0]), found[1]) == (1200, 600)
    assert found[0][1]["input_ids"] == [2, 8, 3]


def test_batches_by_length() -> None:
    rows = [{"input_ids": [0] * n} for n in (5, 2, 9, 2, 3)]
    assert batch_by_length(rows, tokens=9) == [[1, 3, 4], [0], [2]]
    assert batch_by_length(rows, size=2) == [[1, 3], [4, 0], [2]]
    assert batch_by_length(rows[2:3], tokens=3) == [[0]]
    assert batch_by_length([], tokens=9) == []

    def lengths(part: list[dict[str, Any]]) -> list[int]:
        return [len(row["input_ids"]) for row in part]

    answers = answer_all(rows, [[1, 3], [4, 0], [2]], lengths)
    assert answers == [5, 2, 9, 2, 3]


def test_collate_pads_to_the_longest_row_only() -> None:
    rows = [
        {"input_ids": [2, 4, 3], "token_type_ids": [0, 1, 1], "label": 1},
        {"input_ids": [2, 3], "token_type_ids": [0, 1], "label": 0},
    ]
    batch = collate(rows, pad_id=9)
    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[2, 4, 3], [2, 3, 9]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "token_type_ids": [[0, 1, 1], [0, 1, 0]],
        "labels": [1, 0],
    }
    assert all(v.dtype == torch.long for v in batch.values())
    bare = collate([{"input_ids": [2, 3], "label": 0}], pad_id=9)
    assert set(bare) == {"input_ids", "attention_mask", "labels"}


TEXT = "The movie was wonderful, and the transactions' unhappiness was boring."


def test_near_words_by_hand() -> None:
    """Words 0, 1, 3 and 4 of five ids; by angle 0 is nearest to 3, then 1, then 4."""
    embedding = torch.tensor([[1.0, 0], [0, 1], [1, 0.01], [5, 1], [-1, 0]])
    near = near_words(embedding, np.array([True, True, False, True, True]), np.array([0, 4]))
    assert near.tolist() == [[3, 1, 4], [1, 3, 0]]
    added = np.array([True, True, False, True, True, True])  # a token without a row
    assert np.array_equal(near_words(embedding, added, np.array([0, 4])), near)


def test_whole_words_by_hand() -> None:
    starts = np.array([False, True, True, False])  # special, "good", "bad", "##ness"
    inside = np.array([False, False, False, True])
    assert whole_words(np.array([0, 1, 2, 3, 1, 0]), starts, inside).tolist() == [1, 4]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("minilm", "good resume naive dog film price end"),  # it drops accents
        ("roberta_mini", "dog film end"),  # the first word has no mark; € is split
        ("t5_mini", "good resume naive dog film end"),
    ],
)
def test_a_part_of_a_word_is_no_word(name: str, found: str) -> None:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(find_embedded_folder(name))
    text = "good b2b résumé naïve mp3 h2o dog's film, price€ end."
    ids = np.asarray(tokenizer(text)["input_ids"])
    places = whole_words(ids, *word_tokens(tokenizer))
    words = [tokenizer.decode(ids[i]).strip() for i in places]
    assert [word for word in words if len(word) > 2] == found.split()


def test_a_vocabulary_with_a_gap() -> None:
    model = WordLevel({"[UNK]": 0, "good": 1, "bad": 4}, unk_token="[UNK]")
    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]")
    starts, inside = word_tokens(own)
    assert starts.tolist() == [False, True, False, False, True] and not inside.any()


def test_copies_of_texts() -> None:
    backbone = load_backbone("minilm", "embedded:minilm", "bert", "head")
    tokenizer = backbone.tokenizer
    ids = tokenizer(TEXT)["input_ids"]
    rows = [{"input_ids": ids, "label": 1}, {"input_ids": ids, "label": 0}]
    embedding = backbone.model.get_input_embeddings().weight
    copies = copies_of(rows, tokenizer, embedding, copies=200, seed=1)
    assert len(copies) == 400
    assert {row["label"] for row in copies} == {UNLABELLED}
    assert {len(row["input_ids"]) for row in copies} == {len(ids)}
    places = set(whole_words(np.asarray(ids), *word_tokens(tokenizer)).tolist())
    changed = Counter(
        i for row in copies for i, new in enumerate(row["input_ids"]) if new != ids[i]
    )
    assert set(changed) == places
    assert sum(changed.values()) / (400 * len(places)) == pytest.approx(0.25, abs=0.03)
    assert len({row["input_ids"][2] for row in copies}) == 1 + NEAR
    assert copies == copies_of(rows, tokenizer, embedding, copies=200, seed=1)
    assert copies != copies_of(rows, tokenizer, embedding, copies=200, seed=2)


def test_rows_without_words_stay_as_they_are() -> None:
    backbone = load_backbone("minilm", "embedded:minilm", "bert", "head")
    rows = [{"input_ids": backbone.tokenizer("?! 7")["input_ids"], "label": 1}]
    embedding = backbone.model.get_input_embeddings().weight
    (copy,) = copies_of(rows, backbone.tokenizer, embedding, copies=1, seed=1)
    assert copy["input_ids"] == rows[0]["input_ids"]
