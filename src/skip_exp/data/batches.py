"""From texts to padded batches: the one way to tokenize, to pad, and to batch by length.

Training, skills and ONNX exports share it. Importing it imports no torch.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from skip_exp.outcomes.scores import UNLABELLED

if TYPE_CHECKING:
    from torch import Tensor


class Row(TypedDict, total=False):
    """A text or pair; where a model has token types, those too."""

    texts: list[str]
    label: Any  # as its outcome has it: the index of a class, or 0/1 of every class
    group: str  # rows of one stay on one side of a split
    input_ids: list[int]
    token_type_ids: list[int]
    teacher: "Tensor"  # logits [labels]


# input_ids, attention_mask, (token_type_ids): [n, longest]; (labels: [n], or 0/1 [n, labels];
# teacher: [n, labels])
Batch = dict[str, "Tensor"]

_CHUNK = 1000  # texts per tokenizer call
_TOKENIZING = threading.Lock()


def tokenize_fast(tokenizer: Any, *texts: Any, **options: Any) -> Any:
    """``tokenizer(*texts, **options)``, one thread at a time; all calls go through here.

    Truncation is a state of a fast tokenizer, which all skills of a backbone and a fit share.
    """
    with _TOKENIZING:
        return tokenizer(*texts, **options)


def tokenize(
    tokenizer: Any, texts: Sequence[Sequence[str]], max_length: int
) -> tuple[list[Row], int]:
    """Token ids and, if the model has them, token types of texts or pairs; how many are truncated.

    Args:
        tokenizer: a fast one of transformers; or one of tokenizers, which is set to truncate.
        texts: each of one or two texts. A pair is one input, truncated longest-first.
        max_length: tokens of a row, special tokens included.
    """
    rows: list[Row] = []
    truncated = 0
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        # The two libraries take pairs and return encodings in different forms.
        if isinstance(tokenizer, Tokenizer):
            inputs = [text[0] if len(text) == 1 else tuple(text) for text in chunk]
            encodings = tokenizer.encode_batch(inputs)
            has_types = True
        else:
            columns = map(list, zip(*chunk, strict=True))
            encoded = tokenize_fast(tokenizer, *columns, truncation=True, max_length=max_length)
            encodings = encoded.encodings
            has_types = "token_type_ids" in encoded
        for encoding in encodings:
            truncated += len(encoding.overflowing) > 0
            row = Row(input_ids=encoding.ids)
            if has_types:
                row["token_type_ids"] = encoding.type_ids
            rows.append(row)
    return rows, truncated


def pad(
    rows: Sequence[Row], pad_id: int, step: int = 1, most: int = 0
) -> dict[str, NDArray[np.int64]]:
    """Right-pad rows to a common width; padding has mask 0 and token type 0.

    Args:
        step: the width is rounded up to a multiple of this.
        most: rounding never exceeds this width.
    """
    lengths = np.array([count_tokens(row) for row in rows])
    longest = int(lengths.max())
    width = max(longest, min(-(-longest // step) * step, most))
    mask = np.arange(width) < lengths[:, None]

    def fill(name: Literal["input_ids", "token_type_ids"], rest: int) -> NDArray[np.int64]:
        values: list[int] = []
        for row in rows:
            values += row[name]
        filled = np.full(mask.shape, rest, np.int64)
        filled[mask] = values
        return filled

    ids = fill("input_ids", pad_id)
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = fill("token_type_ids", 0)
    return batch


def collate(rows: Sequence[Row], pad_id: int, step: int = 1, most: int = 0) -> Batch:
    """:func:`pad` as tensors, with the labels and a teacher's logits (fp32) that rows have."""
    import torch  # takes seconds, and an ONNX export needs none

    padded = pad(rows, pad_id, step, most)
    batch = {name: torch.from_numpy(values) for name, values in padded.items()}
    if "label" in rows[0]:
        batch["labels"] = torch.tensor([row["label"] for row in rows])
    if "teacher" in rows[0]:
        batch["teacher"] = torch.stack([row["teacher"] for row in rows]).float()
    return batch


def without_label(row: Row) -> Row:
    """The row, for a teacher to label."""
    label = row["label"]
    nothing = UNLABELLED if isinstance(label, int) else (UNLABELLED,) * len(label)
    return row | {"label": nothing}


def count_tokens(row: Row) -> int:
    """Tokens of a row."""
    return len(row["input_ids"])


def order_by_length(rows: Sequence[Row]) -> list[int]:
    """Indices of rows from the shortest to the longest; equal ones stay in order."""
    return sorted(range(len(rows)), key=lambda i: count_tokens(rows[i]))


def batch_by_length(
    rows: Sequence[Row], size: int | None = None, tokens: int | None = None
) -> list[list[int]]:
    """Indices of rows in order of length, in batches of at most ``size`` rows or ``tokens`` tokens.

    Tokens count with padding. A longer row forms its own batch.
    """
    batches: list[list[int]] = []
    for i in order_by_length(rows):
        batch = batches[-1] if batches else []
        is_full = not batch or len(batch) == size
        if tokens is not None and not is_full:
            is_full = count_tokens(rows[i]) * (len(batch) + 1) > tokens
        if is_full:
            batches.append([])
        batches[-1].append(i)
    return batches


def answer_all(
    rows: Sequence[Row],
    batches: Iterable[Sequence[int]],
    answer: Callable[[list[Row]], Iterable[Any]],
) -> list[Any]:
    """What ``answer`` says to each row of a batch, batch by batch, in the order of the rows."""
    answers: dict[int, Any] = {}
    for batch in batches:
        answers.update(zip(batch, answer([rows[i] for i in batch]), strict=True))
    return [answers[i] for i in range(len(rows))]
