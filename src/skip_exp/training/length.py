"""Computes the number of re-tuning epochs: pruned models are cheaper, so they get more."""

import math
from dataclasses import replace

from skip_exp.config.schema import RetuneConfig

SLACK = 1e-9  # rounding: 1 - 0.9 is slightly less than 0.1
# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03


def cost_left(operations: float) -> float:
    """Cost of an epoch after pruning, as a fraction in (0, 1] of a dense epoch.

    Args:
        operations: FLOPs of a forward pass as a fraction of the dense model's, about 1 - ratio.
    """
    return FIXED + (1 - FIXED) * operations


def after_cut(settings: RetuneConfig, cost: float) -> RetuneConfig:
    """Settings with epochs and patience multiplied as far as ``retune.budget`` dense epochs allow.

    Args:
        cost: cost of an epoch, see :func:`cost_left`.
    """
    k = max(1, math.floor(settings.budget / (settings.epochs * cost) + SLACK))
    return replace(settings, epochs=k * settings.epochs, patience=k * settings.patience)
