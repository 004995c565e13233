"""Every model in every form: its answers and its speed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from skip_exp.errors import SkipError
from skip_exp.forms.base import Form
from skip_exp.forms.registry import list_available
from skip_exp.forms.timing import Speed, time_in_turns
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.skill import Skill
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import Candidate, Split, estimate_errors

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns


def measure(
    skills: Mapping[float, Path],
    words: TfIdf | None,
    select: Split,
    validation: Split,
    folder: Path,
) -> tuple[dict[Candidate, Classifier], Speed | None, bool]:
    """Every skill in every form, with its score on the slice and its speed; that of ``words``, too.

    Returns the candidates, the baseline's speed, and whether other processes took cores.

    Args:
        skills: by ratio, the uncut one first.
        validation: only its texts are answered here.
        folder: of the files that forms need beside the skills.
    """
    opened = open_all(skills, folder)
    classifiers = [classifier for _, _, classifier in opened]
    log.info("timing %d models in turns", len(opened) + (words is not None))
    speeds, words_speed, contended = time_beside(classifiers, words, select, validation)
    predictions = [np.array(each.probabilities(select.texts)).argmax(1) for each in classifiers]
    errors = estimate_errors([ratio for ratio, _, _ in opened], predictions, select)
    candidates = {}
    for i, (ratio, form, classifier) in enumerate(opened):
        score, speed = select.score(predictions[i]), speeds[i]
        candidate = Candidate(ratio, form, score, errors[i], speed.texts, speed.spread)
        candidates[candidate] = classifier
    return candidates, words_speed, contended


def open_all(skills: Mapping[float, Path], folder: Path) -> list[tuple[float, str, Classifier]]:
    """Every skill in every form that this machine runs well; the log says what is left out."""
    forms = list_available()
    log.info("opening %d models in %s", len(skills), ", ".join(form.name for form in forms))
    loaded = {ratio: Skill.load(place) for ratio, place in skills.items()}
    wanted = [(ratio, form) for ratio in skills for form in forms]

    def save(each: tuple[float, Form]) -> Path | None:
        ratio, form = each
        skill = loaded[ratio]  # another skill of this ratio has another folder
        try:
            return form.save(skill, folder / form.name / f"{ratio:g}-{skill.checksum[:12]}")
        except SkipError as error:
            log.warning("left out: ratio %g in %s: %s", ratio, form.name, error)
            return None

    # Side by side, since a process of its own traces each export, on one core.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        places = list(pool.map(save, wanted))
    opened = []
    for (ratio, form), place in zip(wanted, places, strict=True):
        if place is not None:
            opened.append((ratio, form.name, form.open(place)))
    return opened


def time_beside(
    classifiers: Sequence[Classifier], words: TfIdf | None, select: Split, validation: Split
) -> tuple[list[Speed], Speed | None, bool]:
    """Speeds of models and of ``words`` on the same texts, and whether others took cores."""
    calls: list[Callable[[list[list[str]]], object]] = []
    calls += [classifier.probabilities for classifier in classifiers]
    if words:
        calls.append(words.predict)
    speeds, contended = time_in_turns(calls, [*select.texts, *validation.texts][:TIMED_TEXTS])
    return speeds[: len(classifiers)], speeds[-1] if words else None, contended
