"""Computes the number of epochs: few rows and cheap pruned models get more."""

import math
from collections.abc import Sequence

from skip_exp.config.train import RetuneConfig, TrainConfig

EPOCHS_SLACK = 1e-9  # rounding: 1 - 0.9 is slightly less than 0.1
# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03
LAST = 0.25  # fraction of the epochs in which nothing should get better any more


def count_epochs(settings: TrainConfig, rows: int) -> int:
    """``epochs``, or as many as make ``min_steps`` optimizer steps on so many rows.

    Example:
        >>> count_epochs(TuneConfig(epochs=6, min_steps=60, batch=32), rows=64)
        30
    """
    steps = math.ceil(rows / settings.batch)
    return max(settings.epochs, math.ceil(settings.min_steps / steps))


def count_paid_epochs(settings: RetuneConfig, cost: float) -> int:
    """A multiple of ``epochs`` that costs at most ``budget`` dense epochs, but once at least.

    Args:
        cost: cost of an epoch, see :func:`cost_left`.
    """
    paid = math.floor(settings.budget / (settings.epochs * cost) + EPOCHS_SLACK)
    return max(1, paid) * settings.epochs


def cost_left(operations: float) -> float:
    """Cost of an epoch after pruning, as a fraction in (0, 1] of a dense epoch.

    Args:
        operations: FLOPs of a forward pass as a fraction of the dense model's, about 1 - ratio.
    """
    return FIXED + (1 - FIXED) * operations


def is_improving(scores: Sequence[float], error: float) -> bool:
    """Whether the last quarter of a fit's epochs gained more on the selection slice than chance.

    Example:
        >>> is_improving([0.5, 0.6, 0.7, 0.8], error=0.05)
        True

    Args:
        scores: of the selection slice, one per epoch.
        error: standard error of a score there.
    """
    before = len(scores) - math.ceil(LAST * len(scores))
    return before > 0 and max(scores[before:]) - max(scores[:before]) > error
