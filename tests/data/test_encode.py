import logging
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from skip_exp.data.batches import collate
from skip_exp.data.encode import draw_rows, encode
from skip_exp.data.rows import Split
from skip_exp.data.sources import RawTask
from skip_exp.errors import ConfigError

from .conftest import spec


def raw(pair: bool = False) -> RawTask:
    """Train rows of 1 to 5 words (row i has i % 5 + 1), two of a label after each other.

    Texts with equal words differ in spaces.
    """
    texts = [" ".join("abcde"[: i % 5 + 1]) + " " * (i // 5) for i in range(40)]
    labels = [i // 2 % 2 for i in range(40)]
    second = ["f"] * 40 if pair else None
    tail = ["f f"] * 4 if pair else None
    splits = {
        "train": Split(texts, second, labels),
        "validation": Split(["a", "b", "c d", "e"], tail, [0, 1, 1, 1]),
        "more": Split(["a", "b", "c d", "e"], tail, [0, 0, 0, 0]),
    }
    task = spec(text=["s", "t"] if pair else ["s"], extra=["more"])
    return RawTask(task, splits, "local:here", "abc")


def test_rows_are_token_ids_with_their_label(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(raw(), tokenizer, 16)
    assert encoded.train[1] == {"input_ids": [2, 4, 5, 3], "token_type_ids": [0] * 4, "label": 0}
    assert [row["label"] for row in encoded.validation] == [0, 1, 1, 1]
    assert len(encoded.extra["more"]) == 4
    assert (encoded.source, encoded.is_sample, encoded.fingerprint) == ("local:here", False, "abc")
    assert encoded.majority == {"accuracy": 0.75}


def test_validation_rows_that_are_train_rows_are_counted(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    assert encode(raw(), tokenizer, 16).duplicates == 1  # "a"; not "b", "c d" and "e"
    assert [record.args for record in caplog.records] == [(1, 4, "validation")]
    assert encode(raw(pair=True), tokenizer, 16).duplicates == 0  # "a" beside another text


def test_a_pair_is_one_input_with_token_types(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode(raw(pair=True), tokenizer, 16).train[1]
    assert row["input_ids"] == [2, 4, 5, 3, 9, 3]
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_every_tenth_train_row_is_selection_and_nothing_else(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    encoded = encode(raw(), tokenizer, 16)
    labels = [i // 2 % 2 for i in range(40)]
    assert [row["label"] for row in encoded.select] == labels[9::10]
    assert [row["label"] for row in encoded.train] == [labels[i] for i in range(40) if i % 10 != 9]


def test_truncation_is_counted_per_split_and_logged(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    encoded = encode(raw(), tokenizer, 5)  # three words and two special tokens
    assert encoded.train[4]["input_ids"] == [2, 4, 5, 6, 3]
    assert caplog.records[0].args == (16, 40, "train", 5)
    caplog.clear()
    encoded = encode(raw(pair=True), tokenizer, 6)  # longest first
    assert encoded.train[4]["input_ids"] == [2, 4, 5, 3, 9, 3]
    assert [record.args[0] for record in caplog.records if record.args] == [24, 1, 1]


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


def test_tokens_are_counted_in_the_train_rows_without_the_selection_slice(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    counts = encode(raw(), tokenizer, 16).token_counts().tolist()
    # 8 rows of each length; the slice takes 4 of the 8 that have 5 words.
    assert counts[4:] == [36, 28, 20, 12, 4]  # a to e; f stands in no train row


# --- data.train_rows ----------------------------------------------------------------------------


def numbered() -> RawTask:
    """Train row i has the text ``a`` i + 1 times, and two of a label come after each other."""
    texts, labels = [" ".join("a" * (i + 1)) for i in range(40)], [i // 2 % 2 for i in range(40)]
    splits = {"train": Split(texts, None, labels), "validation": Split(["a"], None, [0])}
    return RawTask(spec(), splits, "local:here", "abc")


def test_the_rows_drawn_are_the_same_everywhere(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    """Written down, so that every process, machine and library version is held to them."""
    caplog.set_level(logging.INFO)
    task = encode(numbered(), tokenizer, 64)

    def indices(count: int, seed: int) -> list[int]:
        return [len(row["input_ids"]) - 3 for row in draw_rows(task, count, seed).train]

    assert indices(6, seed=1) == [0, 3, 6, 7, 10, 38]
    assert indices(6, seed=2) == [3, 6, 15, 22, 31, 36]
    assert (6, 36) in [record.args for record in caplog.records]
    assert set(indices(6, seed=1)) < set(indices(20, seed=1))
    assert not {i for i in indices(35, seed=1) if i % 10 == 9}  # those select


def test_all_but_the_train_rows_stays(tokenizer: PreTrainedTokenizerFast) -> None:
    task = encode(numbered(), tokenizer, 64)
    drawn = draw_rows(task, 6, seed=1)
    assert (drawn.train_rows, task.train_rows) == (6, None)
    assert replace(drawn, train=task.train, train_rows=None) == task
    assert drawn.token_counts()[4] == sum(len(row["input_ids"]) - 2 for row in drawn.train)
    assert draw_rows(task, 36, seed=1) is draw_rows(task, 99, seed=1) is task
    with pytest.raises(ConfigError, match=r"^data\.train_rows=1: "):  # a single label
        draw_rows(task, 1, seed=1)
