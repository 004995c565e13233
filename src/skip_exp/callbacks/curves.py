"""The curves of a phase, so that a cached phase can be logged again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger


class Curves(Callback):
    """Records the phase's curves, so that a cached phase can replay them to the loggers."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.points: list[dict[str, float | str]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # The trainer counts steps; an epoch of fewer than that has a training loss as well.
        every = min(trainer.log_every_n_steps, int(trainer.num_training_batches))
        trainer.log_every_n_steps = every

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        point: dict[str, float | str] = {"phase": self.phase, "step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            phase, _, metric = name.partition("/")
            if phase == self.phase:
                point[metric] = value.item()
        self.points.append(point)


def kept(phase: str, curves: Sequence[Mapping[str, Any]], epoch: int) -> dict[str, Any]:
    """The row of the epoch that a phase kept, with ``kept_epoch``: its number from 0 on.

    -1 is the state before the first epoch, which has no row of its own.
    """
    row = curves[epoch] if epoch >= 0 else {"phase": phase, "step": 0}
    return {**row, "kept_epoch": epoch}


def replay(logger: Logger | None, curves: Iterable[Mapping[str, Any]]) -> None:
    """Log the curves of a phase that was not run again: {phase, step, metric: value} per row."""
    if logger is None:
        return
    for row in curves:
        metrics = {f"{row['phase']}/{k}": v for k, v in row.items() if k not in ("phase", "step")}
        logger.log_metrics(metrics, step=row["step"])
    logger.save()
