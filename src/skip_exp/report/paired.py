"""Differences between results that share task, backbone and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

FEW = 5  # below this many pairs there is no verdict
CONFIDENCE = 0.95
RESAMPLES = 9999
ABOUT = (
    f"{100 * CONFIDENCE:.0f} % percentile bootstrap of the mean over the pairs"
    f" ({RESAMPLES} resamples, fixed random state)"
)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its confidence interval; without one for few pairs."""

    n: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``tie`` where the interval holds 0, or that pairs are too few."""
        if self.interval is None:
            return f"none: under {FEW} pairs"
        low, high = self.interval
        if low <= 0 <= high:
            return "tie"
        return "better" if low > 0 else "worse"


def difference(values: Sequence[float]) -> Difference | None:
    """Of the differences option - default, one per pair; None for no pairs.

    The percentile method, not BCa: that one is undefined where all differences are equal.
    """
    if not values:
        return None
    interval = None
    if len(values) >= FEW:
        bounds = bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        interval = float(bounds.low), float(bounds.high)
    return Difference(len(values), float(np.mean(values)), interval)
