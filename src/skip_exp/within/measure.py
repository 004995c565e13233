"""Every model in every form: its answers and its speed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from skip_exp.skill.classifier import Classifier
from skip_exp.skill.forms import Speed, export_all, list_forms, open_form, time_in_turns
from skip_exp.skill.record import read_checksum
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import Candidate, Split, estimate_errors

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns


def measure(
    skills: Mapping[float, Path],
    words: TfIdf | None,
    select: Split,
    validation: Split,
    exports: Path,
) -> tuple[dict[Candidate, Classifier], Speed | None, bool]:
    """Every skill in every form, with its score on the slice and its speed; that of ``words``, too.

    Returns the candidates, the baseline's speed, and whether other processes took cores.

    Args:
        skills: by ratio, the uncut one first.
        validation: only its texts are answered here.
        exports: folder of the exports with 8-bit weights.
    """
    opened = open_all(skills, exports)
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


def open_all(skills: Mapping[float, Path], exports: Path) -> list[tuple[float, str, Classifier]]:
    """Every skill in every form that this machine runs well; the log says what is left out."""
    forms, opened = list_forms(), list[tuple[float, str, Classifier]]()
    folders = {skill: export_folder(exports, ratio, skill) for ratio, skill in skills.items()}
    log.info("opening %d models in %s", len(skills), ", ".join(forms))
    if "int8" in forms:
        export_all(folders)  # takes a while
    for ratio, skill in skills.items():
        for form in forms:
            folder = folders[skill] if form == "int8" else skill
            if folder.is_dir():  # else it could not be exported
                opened.append((ratio, form, open_form(form, folder)))
    return opened


def export_folder(exports: Path, ratio: float, skill: Path) -> Path:
    """Of the export with 8-bit weights; another skill of the same ratio has another one."""
    return exports / f"{ratio:g}-{read_checksum(skill)[:12]}"


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
