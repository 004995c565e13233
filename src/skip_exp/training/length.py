"""Computes the number of epochs: few rows and cheap pruned models get more."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skip_exp.config.train import RetuneConfig, TrainConfig

EPOCHS_SLACK = 1e-9  # rounding: 1 - 0.9 is slightly less than 0.1
# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03
LAST = 0.25  # fraction of the epochs in which nothing should get better any more ...
GAIN = 0.02  # ... than by this fraction of the loss


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


def is_improving(curves: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Whether the last epochs of a fit were still better than those before on the selection slice.

    Either the last epoch is the best one in score and in loss, or the lowest loss of the last
    quarter lies well below the lowest before it.
    """
    losses = [row["select_loss"] for row in curves]
    scores = [row[f"select_{metric}"] for row in curves]
    before = len(curves) - math.ceil(LAST * len(curves))
    if before < 1:
        return False
    is_best = scores[-1] > max(scores[:-1]) and losses[-1] < min(losses[:-1])
    return is_best or min(losses[before:]) < (1 - GAIN) * min(losses[:before])
