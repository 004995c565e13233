"""Batches for Lightning and for attribution, with little padding and a reproducible order."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from skip_exp.data.batches import (
    Batch,
    Row,
    answer_all,
    batch_by_length,
    collate,
    count_tokens,
    order_by_length,
)
from skip_exp.data.rows import Rows
from skip_exp.errors import ConfigError, DataError
from skip_exp.utils import bars

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
        order, rest = order[:full], order[full:]
        group = np.arange(full) // (self.batch * _MEGA)
        order = order[np.lexsort((self.lengths[order], group))]
        order = np.concatenate([rng.permutation(order.reshape(-1, self.batch)).ravel(), rest])
        if self.versions > 1:
            order = order + len(self) * rng.integers(self.versions, size=len(self))
        return iter(order.tolist())


def share(rows: Sequence[Row], rank: int, world: int) -> tuple[Sequence[Row], float]:
    """One process's rows of a batch (every ``world``-th), and the weight of their mean loss.

    DDP averages gradients over processes, but the last batch rarely divides evenly. With these
    weights the average is the gradient of the whole batch's mean loss. Every process must take part
    in every step, so one without rows takes the first row with weight 0.
    """
    rows_of_rank = rows[rank::world]
    return rows_of_rank or rows[:1], len(rows_of_rank) * world / len(rows)


class TextDataModule(L.LightningDataModule):
    """Trains on ``train``, validates on ``select`` and tests on ``validation``, all in memory.

    With several processes, each gets its :func:`share` of every train batch, with the weight as
    ``weight`` [], and every n-th row of ``select``.

    Args:
        batch: train rows per step.
        seed: seed of the train order.
        eval_batch: rows per batch of the other loaders, which run in order of length.
        teacher: a teacher's logits of ``rows`` [len(rows), labels], or None.
        rows: what is trained on; None: the train rows.
        versions: of each text in ``rows``: first one of every text, then the next of every text.
    """

    def __init__(
        self,
        encoded: Rows,
        batch: int,
        seed: int,
        eval_batch: int = 64,
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
        self.eval_batch = eval_batch
        pad = encoded.tokenizer.pad_token_id
        if pad is None:
            raise DataError(f"tokenizer {encoded.tokenizer.name_or_path}: it has no padding token")
        self._collate = partial(collate, pad_id=pad)
        longest = max(map(count_tokens, self.rows), default=0)
        self._padded = partial(self._collate, step=_STEP, most=longest)

    def train_dataloader(self) -> DataLoader[Row]:
        rows = list(self.rows)
        if self.teacher is not None:
            rows = [row | {"teacher": own} for row, own in zip(rows, self.teacher, strict=True)]
        lengths = [count_tokens(row) for row in rows[: len(rows) // self.versions]]
        sampler = LengthGroupedSampler(lengths, self.batch, self.seed, self.versions)
        rank, world = self._place()
        collate = self._padded if world == 1 else partial(self._share, rank=rank, world=world)
        return DataLoader(rows, self.batch, sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Row]:
        rank, world = self._place()
        rows = self.encoded.select
        if len(rows) < world:
            why = f"must be at most {len(rows)}, the rows of the selection slice"
            raise ConfigError("trainer.devices", world, why)
        return self._sorted_loader(rows, rank, world)

    def test_dataloader(self) -> DataLoader[Row]:
        return self._sorted_loader(self.encoded.validation)

    def extra_dataloader(self, split: str) -> DataLoader[Row]:
        """Loader of one of the task's ``extra`` splits."""
        return self._sorted_loader(self.encoded.extra[split])

    def of_rows(self, model: Callable[[Batch], Tensor], what: str) -> Tensor:
        """``model(batch)`` [n, ...] for all rows, in their order, on the CPU.

        Args:
            what: title of the progress bar.
        """
        batches = batch_by_length(self.rows, self.eval_batch)
        shown = bars.bar(len(batches), what, batches)
        answers = answer_all(self.rows, shown, lambda rows: model(self._collate(rows)))
        # A single copy at the end: a copy per batch would synchronize with the GPU each time.
        return torch.stack(answers).cpu()

    def attribution_batches(self, samples: int, batch: int, seed: int) -> list[Batch]:
        """Batches of ``samples`` random train rows (without replacement), sorted by length."""
        rows = self.encoded.train
        drawn = np.random.default_rng(seed).permutation(len(rows))[:samples]
        chosen = [rows[i] for i in drawn]
        parts = batch_by_length(chosen, batch)
        return [self._collate([chosen[i] for i in part]) for part in parts]

    def _place(self) -> tuple[int, int]:
        """This process's rank and the number of processes; (0, 1) without a trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _share(self, rows: Sequence[Row], rank: int, world: int) -> Batch:
        rows_of_rank, weight = share(rows, rank, world)
        return self._padded(rows_of_rank) | {"weight": torch.tensor(weight)}

    def _sorted_loader(self, rows: list[Row], rank: int = 0, world: int = 1) -> DataLoader[Row]:
        rows_of_rank = [rows[i] for i in order_by_length(rows)][rank::world]
        # A list is a map-style data set.
        return DataLoader(rows_of_rank, self.eval_batch, collate_fn=self._collate)  # type: ignore[arg-type]
