"""Every model in every form: its answers and its speed."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from skip_exp.config.groups import name_goal
from skip_exp.errors import SkipError
from skip_exp.forms.registry import Form, list_available
from skip_exp.forms.timing import SECONDS, Speed, on_threads, time_speeds
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.record import read_checksum
from skip_exp.skill.skill import Skill
from skip_exp.utils.console import duration
from skip_exp.within.baselines import Baseline
from skip_exp.within.choose import Candidate, Cut, Split, estimate_errors

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns

Place = tuple[Cut, Form, Path]  # of a skill in a form


def measure(
    places: Sequence[Place],
    baselines: Sequence[Baseline],
    select: Split,
    validation: Split,
    fastest: str,
) -> tuple[dict[Candidate, Classifier], list[Speed], bool]:
    """Every skill in every form, with its score on the slice and its speed.

    Returns the candidates, the speeds of all of them and then of the baselines, and whether other
    processes took cores.

    Args:
        places: those of the uncut skill first.
        validation: only its texts are answered here.
        fastest: see :meth:`Speed.rate`.
    """
    with on_threads(1):
        ones = [form.open(place) for _, form, place in places]
    many = [form.open(place) for _, form, place in places]
    speeds, contended = time_beside(ones, many, baselines, select, validation)
    predictions = [np.array(each.probabilities(select.texts)).argmax(1) for each in many]
    errors = estimate_errors([cut for cut, _, _ in places], predictions, select)
    candidates = {}
    for i, (cut, form, _) in enumerate(places):
        score, rate = select.score(predictions[i]), speeds[i].rate(fastest)
        candidates[Candidate(cut, form.name, score, errors[i], rate)] = many[i]
    return candidates, speeds, contended


def name_cut(cut: Cut) -> str:
    """``0.9-3layers``: of folders."""
    return name_goal(cut._asdict())


def save_all(skills: Mapping[Cut, Path], folder: Path) -> list[Place]:
    """Every skill in every form that this machine runs well; the log says what is left out.

    Args:
        folder: of the files that forms need beside the skills.
    """
    forms = list_available()
    loaded = {cut: Skill.load(place) for cut, place in skills.items()}
    wanted = [(cut, form) for cut in skills for form in forms]

    def save(each: tuple[Cut, Form]) -> Path | None:
        cut, form = each
        own = read_checksum(skills[cut])[:12]  # another skill of this cut has another folder
        try:
            return form.save(loaded[cut], folder / form.name / f"{name_cut(cut)}-{own}")
        except SkipError as error:
            log.warning("left out: %s in %s: %s", cut, form.name, error)
            return None

    # Side by side, since a process of its own traces each export, on one core.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        places = list(pool.map(save, wanted))
    saved = []
    for (cut, form), place in zip(wanted, places, strict=True):
        if place is not None:
            saved.append((cut, form, place))
    return saved


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
