"""Records a phase's curves, so that a cached phase can be logged again."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger


class Curves(Callback):
    """Collects a row of metrics per epoch in ``points``; see :func:`replay`."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.points: list[dict[str, float | str]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        replay(trainer.loggers, self.points)  # of the epochs before a fit was killed

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # The trainer logs every n-th step; an epoch shorter than that also needs a training loss.
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

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = state_dict["points"]


def mark_kept(phase: str, curves: Sequence[Mapping[str, Any]], epoch: int) -> dict[str, Any]:
    """The row of the epoch that a phase kept, with its number from 0 as ``kept_epoch``.

    Epoch -1 is the state before training, which has no row.
    """
    row = curves[epoch] if epoch >= 0 else {"phase": phase, "step": 0}
    return {**row, "kept_epoch": epoch}


def replay(loggers: Sequence[Logger], curves: Sequence[Mapping[str, Any]]) -> None:
    """Log the stored curves of a phase, {phase, step, metric: value} per row, as a fit does.

    Its steps and epochs count from 0, ``step`` is the number of steps that were made.
    """
    for epoch, row in enumerate(curves):
        metrics = {f"{row['phase']}/{k}": v for k, v in row.items() if k not in ("phase", "step")}
        metrics["epoch"] = row.get("kept_epoch", epoch)
        for logger in loggers:
            logger.log_metrics({**metrics}, step=max(row["step"] - 1, 0))
    for logger in loggers:
        logger.save()
