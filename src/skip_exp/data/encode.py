"""Tokenizes a task and sets its selection slice apart."""

import logging
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skip_exp.config.schema import DataConfig
from skip_exp.config.task import TaskConfig
from skip_exp.data.batches import UNLABELLED, Row
from skip_exp.data.files import SELECT
from skip_exp.data.given import unlabelled
from skip_exp.data.metrics import majority_scores
from skip_exp.data.rows import FIX, Split
from skip_exp.data.sources import RawTask
from skip_exp.data.splits import NOT_APART, SELECT_EVERY, selection
from skip_exp.errors import ConfigError, DataError
from skip_exp.utils.tokens import tokenized

log = logging.getLogger(__name__)

_CHUNK = 1000  # rows per tokenizer call


@dataclass(frozen=True)
class EncodedTask:
    """A task as token ids."""

    spec: TaskConfig
    train: list[Row]
    select: list[Row]
    validation: list[Row]
    extra: dict[str, list[Row]]
    source: str
    is_sample: bool
    fingerprint: str  # hash of the raw texts and labels
    majority: dict[str, float]  # scores of always predicting validation's most frequent label
    tokenizer: PreTrainedTokenizerBase
    read: str = ""  # hash of the rows as they were read: the same for every seed
    duplicates: int = 0  # validation rows whose texts are also a train row's
    dropped: int = 0  # rows left out: bad ones, and duplicates in train
    train_rows: int | None = None  # number of rows drawn for ``train``; None: all of them
    unlabelled: list[Row] = field(default_factory=list)  # more rows, for a teacher to label

    def token_counts(self) -> Tensor:
        """Occurrences by token id in the train rows, without the selection slice."""
        ids = chain.from_iterable(row["input_ids"] for row in self.train)
        return torch.bincount(torch.from_numpy(np.fromiter(ids, np.int64)))


def encode(raw: RawTask, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedTask:
    """Tokenize every split (pairs as one input) and set the selection slice apart.

    Args:
        tokenizer: a fast tokenizer.
        max_length: tokens per row, special tokens included. Longer rows are truncated, pairs
            longest-first; the log says how many.
    """
    spec = raw.spec
    rows: dict[str, list[Row]] = {}
    for name, split in raw.splits.items():
        rows[name], truncated = _encode_split(split, tokenizer, max_length)
        if truncated:
            log.info(
                "data: truncated %d of %d %s rows to %d tokens (data.max_length)",
                truncated, len(split), name, max_length,
            )  # fmt: skip
    train, select, chosen = rows[spec.train], rows.get(SELECT), set[int]()
    if select is None:
        chosen = set(selection(raw.splits[spec.train].label, raw.splits[spec.train].units))
        if not chosen and len(train) >= SELECT_EVERY:
            raise DataError(f"task {spec.name}: {NOT_APART}: give task.files.{SELECT}")
        select = [train[i] for i in sorted(chosen)]
    if len(found := {row["label"] for row in select}) == 1:
        name = spec.labels[found.pop()]
        log.warning("data: every row of the selection slice has the label %r: it says little", name)
    duplicates = _count_duplicates(raw, spec.validation)
    if SELECT in raw.splits:
        _count_duplicates(raw, SELECT)
    return EncodedTask(
        spec=spec,
        train=[row for i, row in enumerate(train) if i not in chosen],
        select=select,
        validation=rows[spec.validation],
        extra={name: rows[name] for name in spec.extra},
        source=raw.source,
        is_sample=raw.is_sample,
        fingerprint=raw.fingerprint,
        read=raw.read,
        majority=majority_scores(spec, raw.splits[spec.validation].label),
        tokenizer=tokenizer,
        duplicates=duplicates,
        dropped=raw.dropped,
    )


def _count_duplicates(raw: RawTask, name: str) -> int:
    """Number of a split's rows whose texts are also a train row's; a warning says it."""
    known = set(raw.splits[raw.spec.train].texts)
    split = raw.splits[name]
    if duplicates := sum(texts in known for texts in split.texts):
        log.warning(
            "data: %d of %d %s rows are also train rows (data.deduplicate=true drops those)",
            duplicates, len(split), name,
        )  # fmt: skip
    return duplicates


def draw_rows(task: EncodedTask, count: int, seed: int) -> EncodedTask:
    """The task with ``count`` random train rows, kept in their original order.

    The draw depends on ``seed`` alone, and a smaller draw is a subset of a larger one.

    Raises:
        ConfigError: all drawn rows have the same label.
    """
    if count >= len(task.train):
        log.info("data: data.train_rows=%d: using all %d train rows", count, len(task.train))
        return task
    drawn = np.random.default_rng(seed).permutation(len(task.train))[:count]
    rows = [task.train[i] for i in sorted(drawn)]
    if len(labels := {row["label"] for row in rows}) == 1:
        name = task.spec.labels[labels.pop()]
        raise ConfigError(
            "data.train_rows", count, f"all drawn rows have the label {name!r}; draw more"
        )
    log.info("data: drew %d of %d train rows (data.train_rows)", count, len(task.train))
    if lost := sorted({row["label"] for row in task.train} - labels):
        names = ", ".join(task.spec.labels[label] for label in lost[:5]) + ", ..." * (len(lost) > 5)
        log.warning("data: data.train_rows=%d: no drawn row has the label %s", count, names)
    return replace(task, train=rows, train_rows=count)


def with_unlabelled(task: EncodedTask, data: DataConfig) -> EncodedTask:
    """The task with the texts of the file ``data.unlabelled``.

    ``data.deduplicate`` leaves out texts that are scored or choose an epoch.

    Raises:
        DataError: the file cannot be read, or has bad rows and ``data.drop_bad`` is false.
    """
    path = Path(str(data.unlabelled)).expanduser()
    try:
        texts, _ = unlabelled(path, task.spec.text, drop_bad=data.drop_bad, fix=FIX)
    except DataError as error:
        raise DataError(f"data.unlabelled: {error}") from error
    first, *second = map(list, zip(*texts, strict=True)) if texts else ([],)
    split = Split(first, second[0] if second else None, [UNLABELLED] * len(first))
    rows, _ = _encode_split(split, task.tokenizer, data.max_length)
    scored = chain(task.select, task.validation, *task.extra.values())
    known = {tuple(row["input_ids"]) for row in scored}
    new = [row for row in rows if tuple(row["input_ids"]) not in known]
    if len(new) < len(rows):
        told = "dropped" if data.deduplicate else "data.deduplicate=true drops those"
        repeated = len(rows) - len(new)
        log.warning("data: %d texts of %s are also scored (%s)", repeated, path, told)
    rows = new if data.deduplicate else rows
    log.info("data: %d texts without a label from %s", len(rows), path)
    return replace(task, unlabelled=rows)


def _encode_split(
    split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[Row], int]:
    rows: list[Row] = []
    truncated = 0
    for start in range(0, len(split), _CHUNK):
        part = slice(start, start + _CHUNK)
        encoded = tokenized(
            tokenizer,
            split.text_a[part],
            split.text_b[part] if split.text_b is not None else None,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        keys = list(encoded.keys())
        truncated += sum(bool(e.overflowing) for e in encoded.encodings or [])
        for label, *values in zip(split.label[part], *encoded.values(), strict=True):
            rows.append({**dict(zip(keys, values, strict=True)), "label": label})
    return rows, truncated
