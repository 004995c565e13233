"""Scores of predictions, in NumPy, and what they would be on other rows: the bootstrap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000  # resamples of the rows
LEVEL = 0.95  # of intervals
BINS = 15  # of the expected calibration error
FEWEST = 50  # rows that something is fitted on after training; fewer say too little
TEMPERATURE = 2.0  # softens the logits of teacher and student
UNLABELLED = -100  # label of a row that only a teacher labels

Labels = NDArray[np.int64]
Floats = NDArray[np.floating]


def score(
    metric: str,
    predicted: Labels,
    true: Labels,
    classes: int,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """A metric of answers that are one label each, of rows that may count repeatedly.

    Example:
        >>> score("accuracy", np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
        0.6666666666666666

    Args:
        predicted, true: indices of classes [n].
        weights: how often each row counts [n]; None: once.
    """
    weights = np.ones(len(true)) if weights is None else weights
    hits = weights * (predicted == true)
    right = np.bincount(true, hits, classes)
    said = np.bincount(predicted, weights, classes)
    are = np.bincount(true, weights, classes)
    if metric == "accuracy":
        return float(right.sum() / are.sum())
    if metric == "matthews":
        rows = are.sum()
        spread = (rows**2 - said @ said) * (rows**2 - are @ are)
        return float((right.sum() * rows - said @ are) / np.sqrt(spread)) if spread > 0 else 0.0
    # F1 of a class: twice its hits over the rows that have it or are said to.
    either = said + are
    of_class = 2 * right / np.where(either > 0, either, 1)
    if metric == "f1":
        return float(of_class[1])
    return float(of_class[either > 0].mean())  # f1_macro: a class without rows does not count


def resample(
    metric: str, predictions: Sequence[Labels], true: Labels, classes: int
) -> NDArray[np.float64]:
    """Scores of every model on the same random rows, drawn with replacement: [models, DRAWS].

    Differences of two models' scores are paired: both answer the same rows.
    """
    generator = np.random.default_rng(0)
    rows = len(true)
    scores = np.empty((len(predictions), DRAWS))
    for draw in range(DRAWS):
        # Counting rows is faster than copying them, and one draw serves all models.
        weights = np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(float)
        for model, predicted in enumerate(predictions):
            scores[model, draw] = score(metric, predicted, true, classes, weights)
    return scores


def interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """The middle ``LEVEL`` of resampled scores, or differences, [DRAWS]."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def calibration_error(claimed: Floats, is_right: NDArray[Any]) -> float:
    """Expected calibration error in 15 bins of equal width, as a fraction.

    Example: 0.03 where answers are on average 3 points less often right than they claim.

    Args:
        claimed: probabilities of answers [n].
        is_right: 0 or 1 of each [n].
    """
    bins = np.minimum(claimed * BINS, BINS - 1).astype(np.int64)
    gaps = np.bincount(bins, claimed - is_right)
    return float(np.abs(gaps).sum() / len(claimed))
