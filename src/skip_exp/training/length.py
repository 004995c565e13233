"""After a cut an epoch is cheaper, so that there may be more of them. Imports no torch."""

import math
from dataclasses import replace

from skip_exp.config.schema import RetuneConfig

SLACK = 1e-9  # 1 - 0.9 is a little less than 0.1


def cost_left(ratio: float | None, target_speedup: float | None) -> float:
    """Cost of a pass after the cut, as a fraction of the dense model's; in (0, 1]."""
    return 1 - (ratio or 0.0) if target_speedup is None else 1 / target_speedup


def after_cut(settings: RetuneConfig, cost: float) -> RetuneConfig:
    """The settings for a model of ``cost``, a fraction of the dense one's: see `retune.budget`."""
    k = times(settings.epochs, settings.budget, cost)
    return replace(settings, epochs=k * settings.epochs, patience=k * settings.patience)


def times(epochs: int, budget: float, cost: float) -> int:
    """How many times over ``epochs`` of what is kept fit into ``budget``; once in any case.

    Args:
        epochs: of re-tuning, as configured.
        budget: epochs of the dense model that re-tuning may cost in all.
        cost: of an epoch after the cut, as a fraction of the dense model's, in (0, 1].
    """
    return max(1, math.floor(budget / (epochs * cost) + SLACK))
