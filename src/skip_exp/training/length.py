"""Settings of a training phase; after a cut an epoch is cheaper, so that there may be more."""

import math
from dataclasses import dataclass, replace

from skip_exp.errors import ConfigError

SLACK = 1e-9  # 1 - 0.9 is a little less than 0.1


@dataclass(frozen=True)
class TrainSettings:
    """Plain twin of ``config.TrainConfig``."""

    enabled: bool
    epochs: int
    lr: float
    readout_lr: float
    batch: int
    weight_decay: float
    warmup: float
    clip: float
    patience: int
    dropout: bool
    train: str
    bias_lr: float
    init: str = "warm"
    distill: float = 0.0
    budget: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.distill <= 1:
            raise ConfigError("retune.distill", self.distill, "must be in [0, 1]")
        if self.init not in ("warm", "scratch"):
            raise ConfigError("retune.init", self.init, "must be warm or scratch")
        if not 0 <= self.budget < math.inf:
            raise ConfigError("retune.budget", self.budget, "must be at least 0 epochs")

    def after_cut(self, left: float) -> "TrainSettings":
        """The settings for a model of ``left`` of the dense one's cost: see `retune.budget`."""
        k = times(self.epochs, self.budget, left)
        return replace(self, epochs=k * self.epochs, patience=k * self.patience)


def times(epochs: int, budget: float, left: float) -> int:
    """How many times over ``epochs`` of what is left fit into ``budget``; once in any case.

    Args:
        epochs: of re-tuning, as configured.
        budget: epochs of the dense model that re-tuning may cost in all.
        left: cost of an epoch after the cut, as a fraction of the dense model's, in (0, 1].
    """
    return max(1, math.floor(budget / (epochs * left) + SLACK))
