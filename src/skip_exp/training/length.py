"""After a cut an epoch is cheaper, so that there may be more of them. Imports no torch."""

import math
from dataclasses import replace

from skip_exp.config.schema import RetuneConfig

SLACK = 1e-9  # 1 - 0.9 is a little less than 0.1
# Of a dense epoch: what no cut makes cheaper and no count of operations sees (norms, embeddings,
# the optimizer, the loop), as measured on minilm in fp32. A constant, not a clock: a job must have
# as many epochs wherever it runs.
FIXED = 0.03


def cost_left(operations: float) -> float:
    """Cost of an epoch after the cut, as a fraction of the dense model's; in (0, 1].

    Args:
        operations: of a pass of what is left, as a fraction of the dense model's; about
            1 - ratio where the readout is small.
    """
    return FIXED + (1 - FIXED) * operations


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
