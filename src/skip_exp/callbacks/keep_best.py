"""Restores the best epoch of a fit, and ends a fit that gets no better."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.soft_prompt import State, load_trainable, trainable_state

FEW = 100  # rows of a selection slice that tells no single epoch from the next


class KeepBest(Callback):
    """Keeps the trained parameters of the best epoch on the selection slice and restores them.

    They stay in memory, since they are kilobytes. Ties go to the lower loss. The state before the
    first epoch competes as epoch -1 (Lightning's sanity check scores the whole slice), so
    re-tuning cannot make things worse.

    A slice of fewer than ``FEW`` rows cannot choose: a model that always answers the majority may
    be its best epoch, and its loss rises before the accuracy has settled. There the last epoch is
    kept, but none that is two standard errors below the best, or re-tuned and below its start.

    Args:
        rows: of the selection slice.
    """

    def __init__(self, phase: str, metric: str, rows: int = FEW) -> None:
        self.phase, self.metric, self.rows = phase, metric, rows
        self.best: tuple[float, float] | None = None  # score, negative loss; of what is kept
        self.start = self.highest = -math.inf  # scores: before training, and of any epoch
        self.state: State = {}
        self.epoch = -1

    @property
    def score(self) -> float:
        """The main metric of the epoch that is kept, on the selection slice."""
        return self.best[0] if self.best else math.nan

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        key = quality(trainer, self.phase, self.metric)
        if trainer.sanity_checking and self.phase != "tune":  # there nothing is trained yet
            self.start = key[0]
        self.highest = max(self.highest, key[0])
        if self.best is None or key > self.best or self._is_as_good(key[0]):
            self.best = key
            self.epoch = -1 if trainer.sanity_checking else trainer.current_epoch
            self.state = trainable_state(pl_module.model)

    def _is_as_good(self, score: float) -> bool:
        """Whether a small slice cannot tell it from the best score."""
        spread = math.sqrt(max(0.0, self.highest * (1 - self.highest)) / self.rows)
        return self.rows < FEW and score >= max(self.start, self.highest - 2 * spread)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        load_trainable(pl_module.model, self.state)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epoch, self.best = state_dict["epoch"], state_dict["best"]


class Patience(Callback):
    """Ends a fit after ``patience`` epochs that are no better, by score and then by loss.

    The state before the first epoch does not count: a fit may start with a loss.
    """

    def __init__(self, phase: str, metric: str, patience: int) -> None:
        self.phase, self.metric, self.patience = phase, metric, patience
        self.best: tuple[float, float] | None = None
        self.waited = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        key = quality(trainer, self.phase, self.metric)
        if self.best is None or key > self.best:
            self.best, self.waited = key, 0
        else:
            self.waited += 1
        trainer.should_stop = trainer.should_stop or self.waited >= self.patience


def quality(trainer: L.Trainer, phase: str, metric: str) -> tuple[float, float]:
    """Selection score of the last epoch, and its negative loss, which decides between equals."""
    found = trainer.callback_metrics
    return found[f"{phase}/select_{metric}"].item(), -found[f"{phase}/select_loss"].item()
