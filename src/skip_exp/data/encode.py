"""Adds token ids to a task's rows, and draws the rows that a job trains on."""

import logging
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from skip_exp.config.schema import DataConfig
from skip_exp.data.batches import Row, tokenize, without_label
from skip_exp.data.read import read_texts
from skip_exp.data.rows import FIX, Rows, get_labels, get_texts, list_labels, name_label
from skip_exp.data.table import Dialect
from skip_exp.data.text import shown_names
from skip_exp.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MANY_TRUNCATED = 0.1  # fraction of a split's rows


def encode(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Rows:
    """Tokenize every split (pairs as one input).

    Args:
        tokenizer: a fast tokenizer.
        max_length: tokens per row, special tokens included. Longer rows are truncated, pairs
            longest-first; the log says how many.
    """

    def encoded(part: list[Row], name: str) -> list[Row]:
        tokens, truncated = tokenize(tokenizer, get_texts(part), max_length)
        if truncated:
            log_truncated(name, truncated, len(part), max_length)
        return [row | own for row, own in zip(part, tokens, strict=True)]

    return replace(
        rows,
        train=encoded(rows.train, rows.spec.train),
        select=encoded(rows.select, "select"),
        validation=encoded(rows.validation, rows.spec.validation),
        extra={name: encoded(part, name) for name, part in rows.extra.items()},
        tokenizer=tokenizer,
    )


def log_truncated(name: str, truncated: int, rows: int, max_length: int) -> None:
    """Log how many rows lost their end, and as a warning what it costs to read on."""
    found = "data: truncated %d of %d %s rows to %d tokens (data.max_length)"
    if truncated < MANY_TRUNCATED * rows:
        log.info(found, truncated, rows, name, max_length)
        return
    cure = "; data.max_length=%d reads twice as much of them, at twice the time a text or more"
    log.warning(found + cure, truncated, rows, name, max_length, 2 * max_length)


def draw_rows(rows: Rows, count: int, seed: int) -> Rows:
    """The task with ``count`` random train rows, kept in their original order.

    The draw depends on ``seed`` alone, and a smaller draw is a subset of a larger one.

    Raises:
        ConfigError: all drawn rows have the same label.
    """
    every = rows.train
    if count >= len(every):
        log.info("data: data.train_rows=%d: using all %d train rows", count, len(every))
        return rows
    drawn = [every[i] for i in sorted(np.random.default_rng(seed).permutation(len(every))[:count])]
    if len({*get_labels(drawn)}) == 1:
        why = f"all drawn rows have the label {name_label(drawn[0], rows.spec)!r}; draw more"
        raise ConfigError("data.train_rows", count, why)
    log.info("data: drew %d of %d train rows (data.train_rows)", count, len(every))
    lost = [rows.spec.labels[i] for i in sorted({*list_labels(every)} - {*list_labels(drawn)})]
    if lost:
        listed = shown_names(lost)
        log.warning("data: data.train_rows=%d: no drawn row has the label %s", count, listed)
    return replace(rows, train=drawn, train_rows=count)


def with_unlabelled(rows: Rows, data: DataConfig) -> Rows:
    """The task with the texts of the file ``data.unlabelled``, as token ids.

    ``data.deduplicate`` leaves out texts that are scored or choose an epoch.

    Raises:
        DataError: the file cannot be read, or has bad rows and ``data.drop_bad`` is false.
    """
    path = Path(str(data.unlabelled)).expanduser()
    try:
        dialect = Dialect(data.sep, data.encoding)
        texts, _ = read_texts(path, rows.spec.text, (), data.drop_bad, FIX, dialect)
    except DataError as error:
        raise DataError(f"data.unlabelled: {error}") from error
    tokens, _ = tokenize(rows.tokenizer, texts, data.max_length)
    like = {"label": rows.train[0]["label"]}
    found = [without_label(row | like) for row in tokens]
    scored = chain(rows.select, rows.validation, *rows.extra.values())
    known = {tuple(row["input_ids"]) for row in scored}
    new = [row for row in found if tuple(row["input_ids"]) not in known]
    if len(new) < len(found):
        told = "dropped" if data.deduplicate else "data.deduplicate=true drops those"
        repeated = len(found) - len(new)
        log.warning("data: %d texts of %s are also scored (%s)", repeated, path, told)
    if data.deduplicate:
        found = new
    log.info("data: %d texts without a label from %s", len(found), path)
    return replace(rows, unlabelled=found)
