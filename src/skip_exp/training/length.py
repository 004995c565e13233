"""Computes the number of epochs: few rows and cheap pruned models get more."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from skip_exp.config.train import UPDATED, RetuneConfig, TrainConfig

SLACK = 1e-9  # rounding: 1 - 0.9 is slightly less than 0.1
# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03
# Where no number of epochs is given: the usual number, or more until there are so many steps.
# Updates of every linear overfit in more of them in tune: a teacher that is too sure teaches less.
USUAL = {"tune": (8, 300), "retune": (3, 200)}
UPDATES = {"tune": (6, 60), "retune": (3, 200)}
LAST = 0.25  # fraction of the epochs in which nothing should get better any more ...
GAIN = 0.02  # ... than by this fraction of the loss

T = TypeVar("T", bound=TrainConfig)


def for_rows(settings: T, rows: int) -> T:
    """Settings with a number of epochs: the given one, or the usual one.

    Where these have too few optimizer steps, there are more.
    """
    if settings.epochs is not None:
        return settings
    usual, steps = _usual(settings)
    epochs = max(usual, math.ceil(steps / math.ceil(rows / settings.batch)))
    return replace(settings, epochs=epochs)


def _usual(settings: TrainConfig) -> tuple[int, int]:
    """Epochs, and the fewest steps."""
    return (UPDATES if settings.train in UPDATED else USUAL)[settings.phase]


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


def cost_left(operations: float) -> float:
    """Cost of an epoch after pruning, as a fraction in (0, 1] of a dense epoch.

    Args:
        operations: FLOPs of a forward pass as a fraction of the dense model's, about 1 - ratio.
    """
    return FIXED + (1 - FIXED) * operations


def after_cut(settings: RetuneConfig, cost: float) -> RetuneConfig:
    """Settings with the given epochs, or as many as ``retune.budget`` dense epochs allow.

    Args:
        cost: cost of an epoch, see :func:`cost_left`.
    """
    if settings.epochs is not None:
        return settings
    assert settings.budget is not None, "see config.decide"
    epochs = _usual(settings)[0]
    k = max(1, math.floor(settings.budget / (epochs * cost) + SLACK))
    return replace(settings, epochs=k * epochs)
