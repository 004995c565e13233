"""The best epoch of a fit, kept in memory and put back."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.soft_prompt import State, load_trainable, trainable_state


class KeepBest(Callback):
    """Keeps the prompt and readout of the best epoch on the selection slice and puts them back.

    In memory, since it is kilobytes. Ties go to the lower loss. The state before the first epoch
    counts as well (as epoch -1: Lightning's sanity check scores the whole slice), so that
    re-tuning cannot make things worse.

    Attributes:
        halves: the metric on both halves of the slice, per state that was scored.
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
    """What choosing an epoch is worth, on rows that took no part in the choice.

    The best of several noisy scores is too high. So each half of the slice is scored where the
    other one is best, and the two are averaged (cross-fitting; Chernozhukov et al. 2018, section
    3). Each choice sees half of the rows only, so it is a little worse than that of the whole
    slice. Where the best is reached several times, their mean counts.

    Args:
        halves: scores on both halves, per state that might have been kept.
    """

    def judged(pairs: Sequence[tuple[float, float]]) -> float:
        best = max(chooses for chooses, _ in pairs)
        return mean(judges for chooses, judges in pairs if chooses == best)

    return mean([judged(halves), judged([(second, first) for first, second in halves])])
