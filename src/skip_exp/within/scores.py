"""The rows that models are compared on, and how far a score may be from that of other rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skip_exp.data.batches import Row
from skip_exp.data.rows import Rows, get_labels, get_texts
from skip_exp.data.scores import Labels, resample, score


def standard_error(draws: NDArray[np.float64], rows: int) -> float:
    """Of resampled scores, or differences, on so many rows [DRAWS]; at least that of one row.

    Where all answers are right, or two models answer alike, nothing varies; other rows may.
    """
    return max(float(draws.std()), 1 / rows)


@dataclass(frozen=True)
class Split:
    """Rows that are scored by the task's main metric.

    Attributes:
        texts: one or two of every row.
        labels: indices of their classes [n].
        classes: number of classes.
    """

    texts: list[list[str]]
    labels: Labels
    metric: str
    classes: int

    @classmethod
    def of(cls, rows: Rows, part: Sequence[Row]) -> "Split":
        """Some of a task's rows, to be scored by its main metric."""
        texts = [list(each) for each in get_texts(part)]
        spec = rows.spec
        return cls(texts, np.array(get_labels(part)), spec.metrics[0], spec.num_labels)

    def score(self, predicted: Labels) -> float:
        """:func:`score` of the predicted classes [n]."""
        return score(self.metric, predicted, self.labels, self.classes)

    def resample(self, predictions: Sequence[Labels]) -> NDArray[np.float64]:
        """:func:`resample` of every model's predicted classes."""
        return resample(self.metric, predictions, self.labels, self.classes)
