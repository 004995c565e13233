"""How sure a mean difference is: clustered by task, and corrected for how many are asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

FEW = 5  # below this many pairs there is no verdict
CONFIDENCE = 0.95
RESAMPLES = 9999
RATE = 0.05  # of false discoveries among the verdicts other than tie
SAME = 1e-12  # differences of fractions closer to 0 than this are 0
ABOUT = (
    f"{100 * CONFIDENCE:.0f} % percentile interval of a bootstrap clustered by task: tasks are"
    f" drawn anew, then the pairs of each ({RESAMPLES} resamples, fixed random state)"
)
LIMITS = (
    "Few tasks say little about others: three can be drawn in 27 ways only, so that the interval is"
    " too short (how much: docs/design.md), and of one task it tells of its seeds alone."
)


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its interval; without one for few pairs.

    Attributes:
        n: pairs.
        mean: over the tasks of the means over their pairs; as ``tasks``, a fraction.
        tasks: mean over the pairs of each task.
        p: how rarely the resampled means cross 0, two-sided; in (0, 1].
        corrected: p among all comparisons of a page, see `correct`; None before that.
    """

    n: int
    mean: float
    tasks: Mapping[str, float]
    interval: tuple[float, float] | None = None
    p: float | None = None
    corrected: float | None = None

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``tie``, or that pairs are too few; by ``corrected`` if known."""
        p = self.p if self.corrected is None else self.corrected
        if p is None:
            return f"none: under {FEW} pairs"
        if p > RATE:
            return "tie"
        return "better" if self.mean > 0 else "worse"


def difference(values: pd.Series, tasks: pd.Series) -> Difference | None:
    """Of the differences option - default, one per pair, and their tasks; None for no pairs."""
    clusters = {str(task): of.to_numpy(float) for task, of in values.groupby(tasks.to_numpy())}
    if not clusters:
        return None
    means = {task: float(of.mean()) for task, of in clusters.items()}
    found = Difference(len(values), float(np.mean(list(means.values()))), means)
    if len(values) < FEW:
        return found
    resampled = resample(list(clusters.values()))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    # As if the mean at hand were one of the resampled: no p is 0.
    sides = [np.sum(resampled <= SAME), np.sum(resampled >= -SAME)]
    p = min(1.0, 2 * (1 + min(sides)) / (1 + len(resampled)))
    return replace(found, interval=(float(low), float(high)), p=float(p))


def resample(
    clusters: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Means over clusters drawn with replacement, of the means over values drawn within each.

    The bootstrap in two stages of Davison and Hinkley 1997, section 3.8, for the mean.

    Args:
        clusters: per task the differences of its pairs.

    Returns:
        [resamples]
    """
    rng, count = np.random.default_rng(seed), len(clusters)
    # [cluster, resample, place]: each place draws within its cluster for itself.
    within = np.stack([
        rng.choice(of, (resamples, count, len(of))).mean(-1) for of in clusters
    ])  # fmt: skip
    drawn = rng.integers(count, size=(1, resamples, count))
    means: np.ndarray = np.take_along_axis(within, drawn, axis=0)[0].mean(-1)
    return means


def correct(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """The same with ``corrected``: p by the number of those that have one.

    Of all that are told better or worse, at most `RATE` are expected to be false (false discovery
    rate, Benjamini and Hochberg 1995).
    """
    asked = [each.p for each in differences if each and each.p is not None]
    found = iter(false_discovery_control(asked).tolist() if asked else [])
    return [
        replace(each, corrected=next(found)) if each and each.p is not None else each
        for each in differences
    ]
