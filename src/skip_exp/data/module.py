"""From a task's rows to batches for Lightning and for attribution.

Adds token ids, and batches with little padding in a reproducible order.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import lightning as L
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedTokenizerBase

from skip_exp.data.batches import (
    Batch,
    Row,
    batch_by_length,
    collate,
    count_tokens,
    order_by_length,
    tokenize,
)
from skip_exp.data.rows import Rows, get_texts
from skip_exp.errors import DataError

log = logging.getLogger(__name__)

EVAL_BATCH = 64  # rows of a pass that trains nothing; passes run in order of length


def encode(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Rows:
    """Tokenize every split (pairs as one input).

    Args:
        tokenizer: a fast tokenizer.
        max_length: tokens per row, special tokens included. Longer rows are truncated, pairs
            longest-first; the log says how many.

    Raises:
        DataError: the tokenizer has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise DataError(f"tokenizer {tokenizer.name_or_path}: it has no padding token")

    def add_tokens(part: list[Row], name: str) -> list[Row]:
        tokens, truncated = tokenize(tokenizer, get_texts(part), max_length)
        if truncated:
            message = "data: truncated %d of %d %s rows to %d tokens (data.max_length)"
            log.info(message, truncated, len(part), name, max_length)
        return [row | row_tokens for row, row_tokens in zip(part, tokens, strict=True)]

    return replace(
        rows,
        train=add_tokens(rows.train, rows.spec.train),
        select=add_tokens(rows.select, "select"),
        validation=add_tokens(rows.validation, rows.spec.validation),
        extra={name: add_tokens(part, name) for name, part in rows.extra.items()},
        tokenizer=tokenizer,
    )


_MEGA = 50  # batches whose rows are sorted by length together
# Train batches are padded to a multiple of this width. oneDNN compiles a kernel per shape and
# caches 1,024 of them; with arbitrary widths and pruned layers it recompiles in every step.
_STEP = 4


class LengthGroupedSampler(Sampler[int]):
    """Random order in which the rows of each batch have similar lengths.

    Shuffles, sorts within mega-batches of 50 batches, then shuffles the batches. The order depends
    on (seed, epoch) alone. Lightning calls ``set_epoch`` on a loader's sampler (not on a batch
    sampler) before each epoch.

    Args:
        lengths: tokens of each of n rows.
        versions: of each row i, all as long as it, at i, i + n, i + 2 n, ... An epoch has one of
            them at random.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, versions: int = 1) -> None:
        self.lengths = np.asarray(lengths)
        self.batch = batch
        self.seed = seed
        self.versions = versions
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self))
        # The incomplete batch stays last: elsewhere it would shift all later batches. It is random:
        # what is left after sorting would be the longest rows, often the same in every epoch.
        full = len(order) // self.batch * self.batch
        rest = order[full:]
        order = order[:full]
        # Sorting within groups of batches keeps rows of one length from always meeting.
        group = np.arange(full) // (self.batch * _MEGA)
        order = order[np.lexsort((self.lengths[order], group))]
        batches = rng.permutation(order.reshape(-1, self.batch))
        order = np.concatenate([batches.ravel(), rest])
        if self.versions > 1:
            order = order + len(self) * rng.integers(self.versions, size=len(self))
        return iter(order.tolist())


class TextDataModule(L.LightningDataModule):
    """Trains on ``train`` and validates on ``select``, all in memory.

    Args:
        batch: train rows per step.
        seed: seed of the train order.
        teacher: a teacher's logits of ``rows`` [len(rows), labels], or None.
        rows: what is trained on; None: the train rows.
        versions: of each text in ``rows``: first one of every text, then the next of every text.
    """

    def __init__(
        self,
        encoded: Rows,
        batch: int,
        seed: int,
        teacher: Tensor | None = None,
        rows: Sequence[Row] | None = None,
        versions: int = 1,
    ) -> None:
        super().__init__()
        self.teacher = teacher
        self.rows = encoded.train if rows is None else rows
        self.versions = versions
        self.encoded = encoded
        self.batch = batch
        self.seed = seed
        self._collate = partial(collate, pad_id=encoded.tokenizer.pad_token_id)

    def train_dataloader(self) -> DataLoader[Row]:
        rows = list(self.rows)
        if self.teacher is not None:
            labelled = zip(rows, self.teacher, strict=True)
            rows = [row | {"teacher": logits} for row, logits in labelled]
        lengths = [count_tokens(row) for row in rows[: len(rows) // self.versions]]
        sampler = LengthGroupedSampler(lengths, self.batch, self.seed, self.versions)
        padded = partial(self._collate, step=_STEP, most=max(lengths, default=0))
        return DataLoader(rows, self.batch, sampler=sampler, collate_fn=padded)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Row]:
        ordered = [self.encoded.select[i] for i in order_by_length(self.encoded.select)]
        # A list is a map-style data set.
        return DataLoader(ordered, EVAL_BATCH, collate_fn=self._collate)  # type: ignore[arg-type]


def draw_batches(data: Rows, samples: int, batch: int, seed: int) -> list[Batch]:
    """Batches of ``samples`` random train rows (without replacement), sorted by length."""
    order = np.random.default_rng(seed).permutation(len(data.train))
    drawn = [data.train[i] for i in order[:samples]]
    pad_id = data.tokenizer.pad_token_id
    return [collate([drawn[i] for i in ids], pad_id) for ids in batch_by_length(drawn, batch)]
