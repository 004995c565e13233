"""Restores the last good epoch of a fit."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer

from skip_exp.models.trained import State, load_trainable, trainable_state

LOWEST = {"matthews": -1.0}  # of a metric; else 0
SAVED = ("epoch", "score", "start", "highest", "state")  # what a checkpoint has of `KeepLast`


class KeepLast(Callback):
    """Keeps the trained parameters of the last epoch that is as good as any, and restores them.

    A slice of a few hundred rows cannot rank epochs: the one with the highest score is mostly the
    luckiest one, from a time when the learning rate was high. So the last epoch is kept, but none
    whose score is two standard errors below the best one, or re-tuned and below its start.

    The trained parameters stay in memory: kilobytes of a prompt, or every weight of the layers. The
    state before the first epoch is epoch -1 (Lightning's sanity check scores the whole slice).

    Args:
        rows: of the selection slice.
    """

    def __init__(self, phase: str, metric: str, rows: int) -> None:
        self.phase, self.metric, self.rows = phase, metric, rows
        self.score = math.nan  # of what is kept, on the selection slice
        self.start = self.highest = -math.inf  # scores: before training, and of any epoch
        self.state: State = {}
        self.epoch = -1
        self.timed_out = False  # whether ``trainer.extra.max_time`` ended the fit

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        score = trainer.callback_metrics[f"{self.phase}/select_{self.metric}"].item()
        if trainer.sanity_checking and self.phase != "tune":  # there nothing is trained yet
            self.start = score
        self.highest = max(self.highest, score)
        error = standard_error(self.highest, self.rows, self.metric)
        if score >= max(self.start, self.highest - 2 * error):
            self.score = score
            self.epoch = -1 if trainer.sanity_checking else trainer.current_epoch
            self.state = trainable_state(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        load_trainable(pl_module.model, self.state)
        self.state = {}
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, Timer):
                self.timed_out = each.time_remaining() <= 0  # type: ignore[operator]

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SAVED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


def standard_error(score: float, rows: int, metric: str) -> float:
    """Of a score between its metric's lowest and 1 on so many rows, as that of a share of them.

    All right or all wrong counts as two rows from it: no slice is that certain.

    Example:
        >>> standard_error(0.75, 12, "accuracy")
        0.125
    """
    least, lowest = min(0.5, 2 / rows), LOWEST.get(metric, 0.0)
    share = min(1 - least, max(least, (score - lowest) / (1 - lowest)))
    return (1 - lowest) * math.sqrt(share * (1 - share) / rows)
