"""Adds token ids to a task's rows, and draws the rows that a job trains on."""

import logging
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from skip_exp.data.batches import Row, tokenize
from skip_exp.data.rows import Rows, get_labels, get_texts, list_labels
from skip_exp.errors import ConfigError, shown_names

log = logging.getLogger(__name__)

MANY_TRUNCATED = 0.1  # fraction of a split's rows: from here on it is a warning


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
            level = logging.WARNING if truncated >= MANY_TRUNCATED * len(part) else logging.INFO
            message = "data: truncated %d of %d %s rows to %d tokens (data.max_length)"
            log.log(level, message, truncated, len(part), name, max_length)
        return [row | own for row, own in zip(part, tokens, strict=True)]

    return replace(
        rows,
        train=encoded(rows.train, rows.spec.train),
        select=encoded(rows.select, "select"),
        validation=encoded(rows.validation, rows.spec.validation),
        extra={name: encoded(part, name) for name, part in rows.extra.items()},
        tokenizer=tokenizer,
    )


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
        name = rows.spec.outcome.name(drawn[0]["label"], rows.spec.labels)
        why = f"all drawn rows have the label {name!r}; draw more"
        raise ConfigError("data.train_rows", count, why)
    log.info("data: drew %d of %d train rows (data.train_rows)", count, len(every))
    lost = [rows.spec.labels[i] for i in sorted({*list_labels(every)} - {*list_labels(drawn)})]
    if lost:
        listed = shown_names(lost)
        log.warning("data: data.train_rows=%d: no drawn row has the label %s", count, listed)
    return replace(rows, train=drawn, train_rows=count)
