"""Which model is the fastest within a bound: pure functions of answers and speeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip_exp.data.batches import Row
from skip_exp.data.rows import Rows, get_labels, get_texts
from skip_exp.outcomes.scores import Labels, resample, score

REFERENCE = "fp32"  # form of the uncut model that others are compared with
TIE = 0.05  # a better candidate may be so much slower than the fastest
ROUNDING = 1e-9  # of a score
# Standard errors: with so many, nine of ten choices keep their bound on other rows (studies.bound).
MARGIN = 1.5


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
        kept = "" if self.layers is None else f", {self.layers} layer{'s' * (self.layers > 1)}"
        return f"{100 * self.ratio:g} % cut{kept}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A finished model in one of its forms.

    Attributes:
        form: its name, see :mod:`skip_exp.forms`.
        select: score on the selection slice.
        error: standard error of its difference to the uncut model there.
        speed: texts a second, one by one or in batches.
    """

    cut: Cut
    form: str
    select: float
    error: float
    speed: float

    @property
    def name(self) -> str:
        """``uncut, int8`` or ``90 % cut, 3 layers, int8``."""
        return f"{self.cut}, {self.form}"

    @property
    def least(self) -> float:
        """The score that it has, or more, on nine of ten slices like this one."""
        return self.select - MARGIN * self.error + ROUNDING


def judge(
    models: Sequence[tuple[Cut, str]], predictions: Sequence[Labels], select: Split
) -> list[Candidate]:
    """Candidates without a speed, from cut, form and classes on the slice; the first is uncut.

    Another form of the uncut model has no error: a few rows say less of rounding than that it
    hardly changes answers. Else it is that of one row at least: where two models answer alike,
    nothing varies, but other rows may.
    """
    candidates = []
    draws = select.resample(predictions)
    for (cut, form), predicted, of_model in zip(models, predictions, draws, strict=True):
        error = max(float((draws[0] - of_model).std()), 1 / len(select.labels))
        score = select.score(predicted)
        candidates.append(Candidate(cut, form, score, error if cut.ratio > 0 else 0.0, 0.0))
    return candidates


def choose(candidates: Sequence[Candidate], least: float) -> Candidate:
    """The fastest candidate that is above ``least`` by its margin; of near ones the best.

    The uncut model has no error, so that it always fits.
    """
    fitting = [each for each in candidates if each.least >= least]
    fastest = max(each.speed for each in fitting)
    near = [each for each in fitting if each.speed >= (1 - TIE) * fastest]
    return max(near, key=lambda each: (each.select, each.speed))


def pick_shown(candidates: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """What the table has, the fastest last: the chosen one, and every cut in its fastest form.

    The uncut model also stands there as it was trained.
    """
    ranked = sorted(candidates, key=lambda each: each.speed)
    fastest = {candidate.cut: candidate for candidate in ranked}
    shown = [*fastest.values(), *find_references(candidates), chosen]
    return [each for each in ranked if each in shown]


def find_references(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The uncut model in fp32 and, if that is another one, in its fastest form."""
    uncut = [each for each in candidates if each.cut.ratio == 0]
    (plain,) = (each for each in uncut if each.form == REFERENCE)
    fastest = max(uncut, key=lambda each: each.speed)
    return [plain] if fastest is plain else [plain, fastest]
