"""Which model is the fastest within a bound: pure functions of answers and speeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from skip_exp.data.batches import Row
from skip_exp.data.rows import Rows, get_labels, get_texts
from skip_exp.outcomes.scores import Labels, resample, score

REFERENCE = "fp32"  # form of the uncut model that others are compared with
TIE = 0.05  # a better candidate may be so much slower than the fastest
ROUNDING = 1e-9  # of a score
LOSS_LEVEL = 0.9  # of the one-sided limit of one cut's loss (studies.bound)


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
        spec = rows.spec
        return cls(
            texts=[list(texts) for texts in get_texts(part)],
            labels=np.array(get_labels(part)),
            metric=spec.metrics[0],
            classes=spec.num_labels,
        )

    def score(self, predicted: Labels) -> float:
        """:func:`score` of the predicted classes [n]."""
        return score(self.metric, predicted, self.labels, self.classes)

    def resample(self, predictions: Sequence[Labels]) -> NDArray[np.float64]:
        """:func:`resample` of every model's predicted classes."""
        return resample(self.metric, predictions, self.labels, self.classes)


class Speed(NamedTuple):
    """How fast a model is, tokenizer included."""

    ms: float  # of one text on one thread, the median over texts
    p95: float  # the 95th percentile of the same
    texts: float  # a second, in batches on all threads, a median

    def rate(self, fastest: str) -> float:
        """Texts a second as ``prune.fastest`` counts them: in ``batches``, or ``one`` by one."""
        return self.texts if fastest == "batches" else 1000 / self.ms


class Cut(NamedTuple):
    """How much of a model goes: a fraction, and all layers after the first ``layers``."""

    ratio: float
    layers: int | None = None

    def __str__(self) -> str:
        if not self.ratio:
            return "uncut"
        name = f"{100 * self.ratio:g} % cut"
        if self.layers is None:
            return name
        unit = "layer" if self.layers == 1 else "layers"
        return f"{name}, {self.layers} {unit}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A finished model in one of its forms.

    Attributes:
        form: its name, see :mod:`skip_exp.forms`.
        select: score on the selection slice.
        limit: of its loss to the uncut model, see :func:`judge`.
        speed: texts a second, one by one or in batches.
    """

    cut: Cut
    form: str
    select: float
    limit: float
    speed: float

    @property
    def name(self) -> str:
        """``uncut, int8`` or ``90 % cut, 3 layers, int8``."""
        return f"{self.cut}, {self.form}"


def judge(
    models: Sequence[tuple[Cut, str]], predictions: Sequence[Labels], select: Split
) -> list[Candidate]:
    """Candidates without a speed, from cut, form and classes on the slice; the first is uncut.

    A cut's limit is :func:`limit_loss`. Another form of the uncut model has its loss on the slice:
    a few rows say less of rounding than that it hardly changes answers.
    """
    candidates = []
    for (cut, form), predicted in zip(models, predictions, strict=True):
        score = select.score(predicted)
        loss = select.score(predictions[0]) - score
        limit = limit_loss(predictions[0], predicted, select) if cut.ratio else loss
        candidates.append(Candidate(cut, form, score, limit, speed=0.0))
    return candidates


def limit_share(count: int, rows: int) -> float:
    """Clopper-Pearson's upper limit of a share that ``count`` of ``rows`` show: 90 %, one-sided.

    Example:
        >>> limit_share(0, 80)  # nothing seen: 1 - 0.1 ** (1 / 80)
        0.02837...
    """
    return float(betaincinv(count + 1, rows - count, LOSS_LEVEL)) if count < rows else 1.0


def limit_loss(uncut: Labels, predicted: Labels, select: Split) -> float:
    """The most that a model loses to the uncut one, at the confidence of :func:`limit_share`.

    In accuracy it follows from the rows that one of both models alone answers rightly: exact limits
    of both shares, joined as those of independent ones (MOVER). In another metric a row is worth
    as much more as the bootstrap shows, and never less.
    """
    rows = len(select.labels)
    was_right = uncut == select.labels
    is_right = predicted == select.labels
    lost = int((was_right & ~is_right).sum())
    gained = int((is_right & ~was_right).sum())
    above = limit_share(lost, rows) - lost / rows
    below = limit_share(rows - gained, rows) - (rows - gained) / rows
    worth = 1.0
    if select.metric != "accuracy":
        draws = select.resample([uncut, predicted])
        error = float((draws[0] - draws[1]).std())
        worth = max(worth, error * rows / np.sqrt(max(lost + gained, 1)))
    return select.score(uncut) - select.score(predicted) + worth * float(np.hypot(above, below))


def choose(candidates: Sequence[Candidate], bound: float) -> Candidate:
    """The fastest candidate whose limit is within ``bound``; of near ones the best.

    The uncut model loses nothing, so that it always fits.
    """
    fitting = [candidate for candidate in candidates if candidate.limit <= bound + ROUNDING]
    fastest = max(candidate.speed for candidate in fitting)
    near = [candidate for candidate in fitting if candidate.speed >= (1 - TIE) * fastest]
    return max(near, key=lambda candidate: (candidate.select, candidate.speed))
