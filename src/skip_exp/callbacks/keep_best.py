"""Restores the best epoch of a fit, and estimates what choosing it is worth."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.soft_prompt import State, load_trainable, trainable_state


class KeepBest(Callback):
    """Keeps the trained parameters of the best epoch on the selection slice and restores them.

    They stay in memory, since they are kilobytes. Ties go to the lower loss. The state before the
    first epoch competes as epoch -1 (Lightning's sanity check scores the whole slice), so
    re-tuning cannot make things worse.

    Attributes:
        halves: the metric on both halves of the slice, for every scored state.
    """

    def __init__(self, phase: str, metric: str) -> None:
        self.phase, self.metric = phase, metric
        self.best: tuple[float, float] | None = None
        self.state: State = {}
        self.epoch = -1
        self.halves: list[tuple[float, float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        score = metrics[f"{self.phase}/select_{self.metric}"].item()
        key = (score, -metrics[f"{self.phase}/select_loss"].item())
        first, second = (metrics[f"half{half}/{self.metric}"].item() for half in range(2))
        self.halves.append((first, second))
        if self.best is None or key > self.best:
            self.best = key
            self.epoch = -1 if trainer.sanity_checking else trainer.current_epoch
            self.state = trainable_state(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        load_trainable(pl_module.model, self.state)

    @property
    def crossfit(self) -> float:
        """See :func:`crossfit`."""
        return crossfit(self.halves)


def crossfit(halves: Sequence[tuple[float, float]]) -> float:
    """Score of the chosen epoch on rows that took no part in the choice.

    The maximum of several noisy scores is biased upwards. So each half of the slice is scored at
    the epoch where the other half is best, and the two scores are averaged (cross-fitting;
    Chernozhukov et al. 2018, section 3). Each choice sees only half of the rows, so it is slightly
    worse than a choice on the whole slice. Ties are averaged.

    Args:
        halves: scores on both halves, for every candidate state.
    """

    def held_out(pairs: Sequence[tuple[float, float]]) -> float:
        best = max(choice for choice, _ in pairs)
        return mean(score for choice, score in pairs if choice == best)

    return mean([held_out(halves), held_out([(second, first) for first, second in halves])])
