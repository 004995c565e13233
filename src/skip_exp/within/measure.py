"""Every model in every form: its answers and its speed."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch

from skip_exp.config.groups import name_goal
from skip_exp.errors import SkipError
from skip_exp.forms.registry import Form
from skip_exp.outcomes.scores import Labels
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.skill import Skill
from skip_exp.utils.console import duration, pause_collection
from skip_exp.utils.timing import alone
from skip_exp.within.baselines import Baseline
from skip_exp.within.choose import Cut, Speed, Split

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns
SECONDS = 1.0  # of each model, about: one text at a time, then as many in batches
TURNS = 4  # turns of each model at least
BLOCK = 8  # texts that a model answers one by one in a turn
AT_ONCE = 128  # texts that it answers at once

Place = tuple[Cut, Form, Path]  # of a skill in a form
Answer = Callable[[list[list[str]]], object]  # such as Classifier.probabilities


def measure(
    places: Sequence[Place], baselines: Sequence[Baseline], select: Split, validation: Split
) -> tuple[list[Classifier], list[Speed], bool]:
    """Open every skill in every form, and time it.

    Returns the models, the speeds of all of them and then of the baselines, and whether other
    processes took cores.

    Args:
        validation: only its texts are answered here.
    """
    with on_threads(1):
        ones = [form.open(place) for _, form, place in places]
    many = [form.open(place) for _, form, place in places]
    return many, *time_beside(ones, many, baselines, select, validation)


def name_cut(cut: Cut) -> str:
    """``0.9-3layers``: of folders."""
    return name_goal(cut._asdict())


def save_all(cut: Cut, place: Path, forms: Sequence[Form], folder: Path) -> list[Place]:
    """A skill in every form that it has; the log says what is left out.

    Args:
        place: of the skill.
        folder: of the files that forms need beside the skills.
    """
    skill, saved = Skill.load(place), []
    for form in forms:
        files = folder / form.name / f"{name_cut(cut)}-{form.name_files(place)}"
        try:
            saved.append((cut, form, form.save(skill, files)))
        except SkipError as error:
            log.warning("left out: %s in %s: %s", cut, form.name, error)
    return saved


def predict(place: Place, select: Split) -> Labels:
    """The classes that a skill in a form gives the slice [n]."""
    _, form, folder = place
    return np.array(form.open(folder).probabilities(select.texts)).argmax(1)


def time_beside(
    ones: Sequence[Classifier],
    many: Sequence[Classifier],
    baselines: Sequence[Baseline],
    select: Split,
    validation: Split,
) -> tuple[list[Speed], bool]:
    """:func:`time_speeds` of models and then of ``baselines``, on the same texts."""
    rest = [each.predict for each in baselines]
    about = duration(2 * SECONDS * (len(many) + len(rest)))
    log.info("timing %d models in turns, about %s", len(many) + len(rest), about)
    texts = [*select.texts, *validation.texts][:TIMED_TEXTS]
    return time_speeds(
        [*(each.probabilities for each in ones), *rest],
        [*(each.probabilities for each in many), *rest],
        texts,
    )


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch computes on ``count`` threads within the block, also what is opened there."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_speeds(
    ones: Sequence[Answer], many: Sequence[Answer], texts: list[list[str]]
) -> tuple[list[Speed], bool]:
    """The speeds of models on these texts, and whether others were busy.

    Args:
        ones: each answers on one thread.
        many: the same models on all threads.
    """
    with on_threads(1):
        singles, one_contended = time_in_turns(ones, texts, BLOCK, 1)
    batches, contended = time_in_turns(many, texts, AT_ONCE, AT_ONCE)
    speeds = []
    for of_one, of_many in zip(singles, batches, strict=True):
        p95 = quantiles(of_one, n=20, method="inclusive")[-1]
        speeds.append(Speed(1000 * median(of_one), 1000 * p95, 1 / median(of_many)))
    return speeds, one_contended or contended


def time_in_turns(
    calls: Sequence[Answer], texts: list[list[str]], turn: int, batch: int
) -> tuple[list[list[float]], bool]:
    """Seconds a text of every batch, [calls][batches], and whether others were busy.

    In each turn all models answer the same ``turn`` texts. The first of these is answered before,
    untimed: the other models filled the caches.
    """

    def measure() -> list[list[float]]:
        times: list[list[float]] = [[] for _ in calls]
        end = time.perf_counter() + SECONDS * len(calls)
        number = 0
        while number < TURNS or time.perf_counter() < end:
            first = number * turn % len(texts)
            part = texts[first : first + turn]
            batches = [part[i : i + batch] for i in range(0, len(part), batch)]
            for call, of_call in zip(calls, times, strict=True):
                call(part[:1])
                for each in batches:
                    start = time.perf_counter()
                    call(each)
                    of_call.append((time.perf_counter() - start) / len(each))
            number += 1
        return times

    with pause_collection():
        return alone(measure)
