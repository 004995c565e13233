"""Every model in every form: its answers and its speed."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np
import torch

from skip_exp.errors import SkipError
from skip_exp.forms.registry import Form
from skip_exp.outcomes.scores import Labels
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.skill import Skill
from skip_exp.utils.console import duration, pause_collection
from skip_exp.utils.timing import alone
from skip_exp.within.baselines import Baseline
from skip_exp.within.choose import Cut, Speed, Split
from skip_exp.within.cuts import name_cut

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns
SECONDS = 1.0  # of each model, about: one text at a time, then as many in batches
TURNS = 4  # turns of each model at least
BLOCK = 8  # texts that a model answers one by one in a turn
AT_ONCE = 128  # texts that it answers at once

Answer = Callable[[list[list[str]]], object]  # such as Classifier.probabilities


class SavedModel(NamedTuple):
    """A skill in one of its forms."""

    cut: Cut
    form: Form
    folder: Path

    def open(self) -> Classifier:
        return self.form.open(self.folder)


class Timing(NamedTuple):
    """Speeds of models and of baselines, and whether other processes took cores."""

    models: list[Speed]
    baselines: list[Speed]
    contended: bool


def save_all(cut: Cut, skill_folder: Path, forms: Sequence[Form], folder: Path) -> list[SavedModel]:
    """A skill in every form that it has; the log says what is left out.

    Args:
        folder: of the files that forms need beside the skills.
    """
    skill = Skill.load(skill_folder)
    models = []
    for form in forms:
        files = folder / form.name / f"{name_cut(cut)}-{form.name_files(skill_folder)}"
        try:
            models.append(SavedModel(cut, form, form.save(skill, files)))
        except SkipError as error:
            log.warning("left out: %s in %s: %s", cut, form.name, error)
    return models


def predict(model: SavedModel, select: Split) -> Labels:
    """The classes that a skill in a form gives the slice [n]."""
    return np.array(model.open().probabilities(select.texts)).argmax(1)


def time_beside(
    ones: Sequence[Classifier],
    many: Sequence[Classifier],
    baselines: Sequence[Baseline],
    select: Split,
    validation: Split,
) -> Timing:
    """:func:`time_speeds` of models and of ``baselines``, on the same texts.

    Args:
        ones: models that answer on one thread.
        many: the same models on all threads.
        select, validation: only their texts are used here.
    """
    count = len(many) + len(baselines)
    log.info("timing %d models in turns, about %s", count, duration(2 * SECONDS * count))
    texts = (select.texts + validation.texts)[:TIMED_TEXTS]
    # An ONNX session keeps the threads of its opening, a baseline takes those of each call.
    rest: list[Answer] = [baseline.predict for baseline in baselines]
    speeds, contended = time_speeds(
        [model.probabilities for model in ones] + rest,
        [model.probabilities for model in many] + rest,
        texts,
    )
    return Timing(speeds[: len(many)], speeds[len(many) :], contended)


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
                for texts_of_batch in batches:
                    start = time.perf_counter()
                    call(texts_of_batch)
                    of_call.append((time.perf_counter() - start) / len(texts_of_batch))
            number += 1
        return times

    with pause_collection():
        return alone(measure)
