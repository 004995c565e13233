"""Batches for Lightning and for attribution: little padding, same order for the same seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from skip_exp.data.batches import Batch, Row, collate
from skip_exp.data.encode import EncodedTask
from skip_exp.errors import ConfigError, DataError

_MEGA = 50  # batches that are sorted by length together
# Train batches are a multiple of this wide. oneDNN compiles a kernel per shape and keeps 1,024 of
# them: with every width, and layers cut to sizes of their own, it compiled 65 a step (at 95 %, CR).
_STEP = 4


class LengthGroupedSampler(Sampler[int]):
    """Random order in which each run of ``batch`` rows is of similar length.

    Shuffles, sorts within mega-batches of 50 batches, then shuffles the batches. The order depends
    on (seed, epoch) alone, so a resumed run goes on as an uninterrupted one. Lightning calls
    ``set_epoch`` on a loader's sampler (not on a batch sampler) before each epoch.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch = batch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self))
        mega = self.batch * _MEGA
        parts = [order[i : i + mega] for i in range(0, len(order), mega)]
        order = np.concatenate([p[np.argsort(self.lengths[p], kind="stable")] for p in parts])
        # The incomplete batch stays last: elsewhere it would shift the borders of all others.
        full = len(order) // self.batch * self.batch
        batches = rng.permutation(order[:full].reshape(-1, self.batch))
        return iter([*batches.ravel().tolist(), *order[full:].tolist()])


def share(rows: Sequence[Row], rank: int, world: int) -> tuple[Sequence[Row], float]:
    """The rows of one batch that fall to process ``rank``, and the weight of their mean loss.

    Every ``world``-th row. Gradients are averaged over the processes, and the last batch of an
    epoch rarely divides: with these weights the average is the gradient of the whole batch's mean
    loss. A process must take part in every step, so one without a row takes the first, weighted 0.
    """
    rows_of_rank = rows[rank::world]
    return rows_of_rank or rows[:1], len(rows_of_rank) * world / len(rows)


class TextDataModule(L.LightningDataModule):
    """Train on ``train``, validate on ``select``, test on ``validation``; rows stay in memory.

    Every row of ``select`` tells its half, 0 and 1 in turn: see ``callbacks.keep_best.crossfit``.
    Where a trainer runs several processes, each gets its :func:`share` of every train batch, with
    the weight as ``weight`` [], and every n-th row of ``select``.

    Args:
        batch: train rows per step.
        seed: of the order of the train rows.
        eval_batch: rows per batch of the other loaders, which run in order of length.
        taught: by name (see ``batches.TAUGHT``), [train rows, ...]: what train batches carry.
    """

    def __init__(
        self,
        encoded: EncodedTask,
        batch: int,
        seed: int,
        eval_batch: int = 64,
        taught: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.taught = dict(taught or {})
        self.encoded = encoded
        self.batch = batch
        self.seed = seed
        self.eval_batch = eval_batch
        pad = encoded.tokenizer.pad_token_id
        if pad is None:
            raise DataError(f"the tokenizer {encoded.tokenizer.name_or_path} has no padding token")
        self._collate = partial(collate, pad_id=pad)
        longest = max(map(_length, encoded.train), default=0)
        self._padded = partial(self._collate, step=_STEP, most=longest)

    def train_dataloader(self) -> DataLoader[Row]:
        rows = self.encoded.train
        for name, answers in self.taught.items():
            rows = [row | {name: own} for row, own in zip(rows, answers, strict=True)]
        sampler = LengthGroupedSampler([_length(row) for row in rows], self.batch, self.seed)
        rank, world = self._place()
        collate = self._padded if world == 1 else partial(self._share, rank=rank, world=world)
        return self._loader(rows, self.batch, sampler, collate)

    def val_dataloader(self) -> DataLoader[Row]:
        rank, world = self._place()
        rows = [row | {"half": i % 2} for i, row in enumerate(self.encoded.select)]
        if len(rows) < world:
            why = f"the selection slice has {len(rows)} rows only, and each process scores some"
            raise ConfigError("trainer.devices", world, why)
        return self._sorted_loader(rows, rank, world)

    def test_dataloader(self) -> DataLoader[Row]:
        return self._sorted_loader(self.encoded.validation)

    def extra_dataloader(self, split: str) -> DataLoader[Row]:
        """Loader of one of the task's ``extra`` splits."""
        return self._sorted_loader(self.encoded.extra[split])

    def of_train_rows(self, model: Callable[[Batch], Tensor]) -> Tensor:
        """``model(batch)`` [n, ...] of every train row, in the order of the rows; on the CPU."""
        rows = self.encoded.train
        order = sorted(range(len(rows)), key=lambda i: _length(rows[i]))
        parts = [order[i : i + self.eval_batch] for i in range(0, len(order), self.eval_batch)]
        # One copy at the end: one of each batch would be waited for.
        found = torch.cat([model(self._collate([rows[i] for i in part])) for part in parts]).cpu()
        return torch.empty_like(found).index_copy_(0, torch.tensor(order), found)

    def attribution_batches(self, samples: int, batch: int, seed: int) -> list[Batch]:
        """Batches of ``samples`` train rows drawn without replacement, sorted by length."""
        if samples < 1:
            raise ConfigError("attribution.samples", samples, "must be at least 1")
        rows = self.encoded.train
        indices = np.random.default_rng(seed).permutation(len(rows))[:samples]
        rows_by_length = sorted((rows[i] for i in indices), key=_length)
        return [
            self._collate(rows_by_length[i : i + batch])
            for i in range(0, len(rows_by_length), batch)
        ]

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and number of processes, of the trainer at hand: else 0 of 1."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _share(self, rows: Sequence[Row], rank: int, world: int) -> Batch:
        rows_of_rank, weight = share(rows, rank, world)
        return self._padded(rows_of_rank) | {"weight": torch.tensor(weight)}

    def _sorted_loader(self, rows: list[Row], rank: int = 0, world: int = 1) -> DataLoader[Row]:
        rows_of_rank = sorted(rows, key=_length)[rank::world]
        return self._loader(rows_of_rank, self.eval_batch, None, self._collate)

    def _loader(
        self,
        rows: list[Row],
        batch: int,
        sampler: Sampler[int] | None,
        collate: Callable[[list[Row]], Batch],
    ) -> DataLoader[Row]:
        # A list is a map-style data set.
        return DataLoader(
            rows,  # type: ignore[arg-type]
            batch,
            sampler=sampler,
            collate_fn=collate,
            num_workers=0,
        )


def _length(row: Row) -> int:
    return len(row["input_ids"])
