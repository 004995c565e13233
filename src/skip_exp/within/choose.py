"""Which model or cascade is the fastest within a bound: pure functions of answers and speeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skip_exp.data.scores import Labels
from skip_exp.within.scores import Split, standard_error

MOST_THRESHOLDS = 200  # of a pair that are scored
MIDDLE_THRESHOLDS = 20  # of the middle member that a cascade of three tries
FITTED = 0.5  # share of the bound that thresholds may use up: see studies/README.md
TIE = 0.05  # a simpler candidate may be so much slower than the fastest
ROUNDING = 1e-9  # of a score


class Answers(NamedTuple):
    """What a model says of some rows: likeliest class, and its probability, each [n]."""

    predicted: Labels
    confidence: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Model:
    """A finished model in one of its forms.

    Attributes:
        ratio: fraction that was cut.
        form: see :mod:`skip_exp.skill.forms`.
        answers: on the selection slice.
        speed: texts a second, a median.
        spread: half the interquartile range of the speed.
    """

    ratio: float
    form: str
    answers: Answers
    speed: float
    spread: float = 0.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model or a cascade of models, from fast to slow.

    Attributes:
        thresholds: one for each model but the last.
        sent_on: share of the slice that reached each model after the first.
        predicted: classes on the slice [n].
        select: the score there.
        error: standard error of its difference to the reference there; 0 for the reference's forms.
        speed: texts a second; of a cascade, as those of its models say.
        spread: of a speed that was measured.
    """

    models: tuple[Model, ...]
    thresholds: tuple[float, ...]
    sent_on: tuple[float, ...]
    predicted: Labels
    select: float
    speed: float
    spread: float | None = None
    error: float = 0.0


Score = Callable[[Labels], float]  # classes that are predicted on the slice -> score


def join(members: Sequence[Answers], thresholds: Sequence[float]) -> tuple[Answers, list[float]]:
    """What a cascade answers, and the share of the rows that reached each later member.

    Example: of confidences 0.9 and 0.6, a threshold of 0.8 leaves the second row to the next
    member, a share of 0.5.
    """
    predicted, confidence = members[0].predicted.copy(), members[0].confidence.copy()
    left = np.ones(len(predicted), bool)
    shares = []
    for member, after, threshold in zip(members, members[1:], thresholds, strict=False):
        left &= member.confidence < threshold
        predicted[left], confidence[left] = after.predicted[left], after.confidence[left]
        shares.append(float(left.mean()))
    return Answers(predicted, confidence), shares


def estimate_speed(speeds: Sequence[float], shares: Sequence[float]) -> float:
    """Texts a second of a cascade: every member takes its time for the texts that reach it.

    Example:
        >>> estimate_speed([100.0, 50.0], [0.5])
        50.0
    """
    reached = zip((1.0, *shares), speeds, strict=True)
    return 1 / sum(share / speed for share, speed in reached)


def choose_threshold(first: Answers, second: Labels, score: Score, least: float) -> float | None:
    """The smallest threshold from which on every larger one scores at least ``least``.

    A lucky dip below does not choose. None: no threshold below sending everything on will do.

    Args:
        second: what the next member, or the rest of the cascade, predicts for every row.
    """
    if score(second) < least - ROUNDING:
        return None
    found = None
    for threshold in reversed(list_thresholds(first.confidence, MOST_THRESHOLDS)):
        joined = np.where(first.confidence < threshold, second, first.predicted)
        if score(joined) < least - ROUNDING:
            break
        found = threshold
    return found


def list_thresholds(confidence: NDArray[np.float64], most: int) -> list[float]:
    """Midpoints between neighbouring confidences, in order, and ``most`` of them at most.

    Rounding in a batch of another size then sends no text another way.
    """
    different = np.unique(confidence)
    middles = (different[1:] + different[:-1]) / 2
    if len(middles) > most:
        middles = middles[np.linspace(0, len(middles) - 1, most).astype(int)]
    return [float(each) for each in middles]


def list_candidates(models: Sequence[Model], score: Score, least: float) -> list[Candidate]:
    """Every model, and the cascades that score at least ``least`` on the slice.

    A cascade ends in any form of the uncut model. Members before that are cut, each in its fastest
    form.
    """
    candidates = [make_candidate([model], [], score) for model in models]
    fastest: dict[float, Model] = {}
    for model in sorted(models, key=lambda each: each.speed):
        fastest[model.ratio] = model
    cuts = [fastest[ratio] for ratio in sorted(fastest, reverse=True) if ratio > 0]
    for last in models:
        if last.ratio > 0:
            continue
        for first in cuts:
            threshold = choose_threshold(first.answers, last.answers.predicted, score, least)
            if threshold is not None:
                candidates.append(make_candidate([first, last], [threshold], score))
        for first, middle in combinations(cuts, 2):
            candidates += _fastest_of_three([first, middle, last], score, least)
    return candidates


def _fastest_of_three(models: Sequence[Model], score: Score, least: float) -> list[Candidate]:
    """The fastest cascade of three models within the bound; none where there is none."""
    found = []
    first, middle, last = (model.answers for model in models)
    for second_threshold in list_thresholds(middle.confidence, MIDDLE_THRESHOLDS):
        rest, _ = join([middle, last], [second_threshold])
        threshold = choose_threshold(first, rest.predicted, score, least)
        if threshold is not None:
            candidate = make_candidate(models, [threshold, second_threshold], score)
            if candidate.sent_on[-1] > 0:  # else it is a cascade of two
                found.append(candidate)
    return sorted(found, key=lambda each: each.speed)[-1:]


def make_candidate(models: Sequence[Model], thresholds: Sequence[float], score: Score) -> Candidate:
    """A model, or a cascade of several, with its score on the slice and its speed."""
    answers, shares = join([model.answers for model in models], thresholds)
    return Candidate(
        models=tuple(models),
        thresholds=tuple(thresholds),
        sent_on=tuple(shares),
        predicted=answers.predicted,
        select=score(answers.predicted),
        speed=estimate_speed([model.speed for model in models], shares),
        spread=models[0].spread if len(models) == 1 else None,
    )


def add_errors(candidates: Sequence[Candidate], reference: Model, select: Split) -> list[Candidate]:
    """The candidates with the errors of their differences to ``reference`` on the slice.

    Its other forms have none: a few rows say less of rounding than that it hardly changes answers.
    """
    draws = select.resample([reference.answers.predicted, *(each.predicted for each in candidates)])
    found = []
    for each, of_each in zip(candidates, draws[1:], strict=True):
        is_form = [model.ratio for model in each.models] == [reference.ratio]
        error = standard_error(draws[0] - of_each, len(select.labels))
        found.append(replace(each, error=0.0 if is_form else error))
    return found


def fits(candidate: Candidate, least: float) -> bool:
    return candidate.select - candidate.error >= least - ROUNDING


def choose(candidates: Sequence[Candidate], least: float) -> Candidate:
    """The fastest candidate that is above ``least`` by a standard error; of near ones the simplest.

    The reference has no error, so that it always fits.
    """
    fitting = [each for each in candidates if fits(each, least)]
    fastest = max(each.speed for each in fitting)
    near = [each for each in fitting if each.speed >= (1 - TIE) * fastest]
    return min(near, key=lambda each: (len(each.models), -each.select, -each.speed))
