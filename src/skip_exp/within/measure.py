"""Every model in every form: its answers, its speed, and its place in the last table."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from skip_exp.data.rows import Rows, get_labels
from skip_exp.data.scores import Labels
from skip_exp.results import PREDICTIONS
from skip_exp.skill.cascade import Cascade
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.forms import (
    Speed,
    export_all,
    list_forms,
    megabytes,
    open_form,
    time_in_turns,
)
from skip_exp.skill.record import Form, read_checksum
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import Answers, Candidate, Model, choose, fits, join
from skip_exp.within.scores import Split

log = logging.getLogger(__name__)

TIMED_TEXTS = 400  # texts that every model answers in turns
TIMED_CASCADES = 2  # the fastest ones; the speeds of others are estimates


def ask(classifier: Classifier, split: Split) -> Answers:
    answers = np.array(classifier.probabilities(split.texts))
    return Answers(answers.argmax(1), answers.max(1))


def measure(
    skills: Mapping[float, Path],
    words: TfIdf | None,
    select: Split,
    texts: list[list[str]],
    exports: Path,
) -> tuple[dict[Model, Classifier], Speed | None, bool]:
    """Every skill in every form, with answers on the slice and speed; that of ``words``, too.

    Returns the models, the baseline's speed, and whether other processes took cores.
    """
    forms, opened = list_forms(), list[tuple[float, Form, Classifier]]()
    folders = {skill: export_folder(exports, ratio, skill) for ratio, skill in skills.items()}
    log.info("opening %d models in %s", len(skills), ", ".join(forms))
    if "int8" in forms:
        export_all(folders)  # takes a while
    for ratio, skill in skills.items():
        for form in forms:
            classifier = open_form(skill, form, folders[skill])
            if classifier is not None:
                opened.append((ratio, form, classifier))
    calls: list[Callable[[list[list[str]]], object]] = []
    calls += [classifier.probabilities for _, _, classifier in opened]
    if words:
        calls.append(words.predict)
    log.info("timing %d models on %d texts, in turns", len(calls), len(texts))
    speeds, contended = time_in_turns(calls, texts)
    models = {}
    for (ratio, form, classifier), speed in zip(opened, speeds, strict=False):
        model = Model(ratio, form, ask(classifier, select), speed.texts, speed.spread)
        models[model] = classifier
    return models, speeds[-1] if words else None, contended


def export_folder(exports: Path, ratio: float, skill: Path) -> Path:
    """Of the export with 8-bit weights; another skill of the same ratio has another one."""
    return exports / f"{ratio:g}-{read_checksum(skill)[:12]}"


def choose_timed(
    candidates: list[Candidate],
    least: float,
    models: Mapping[Model, Classifier],
    texts: list[list[str]],
) -> tuple[list[Candidate], Candidate, bool]:
    """The choice; a cascade is timed beside the best single model, and must be faster there.

    Returns the candidates, the fastest cascades with the speeds that were measured, relative to
    the single model's earlier one; the chosen one; and whether other processes took cores.
    """
    single = choose([each for each in candidates if len(each.models) == 1], least)
    cascades = [each for each in candidates if len(each.models) > 1 and fits(each, least)]
    cascades = [each for each in cascades if each.speed > single.speed]
    cascades = sorted(cascades, key=lambda each: each.speed)[-TIMED_CASCADES:]
    if not cascades:
        return candidates, single, False
    calls = [to_classifier(each, models).probabilities for each in (single, *cascades)]
    (alone, *speeds), contended = time_in_turns(calls, texts)
    timed = []
    for each, speed in zip(cascades, speeds, strict=True):
        scale = single.speed / alone.texts
        timed.append(replace(each, speed=scale * speed.texts, spread=scale * speed.spread))
    others = [each for each in candidates if each not in cascades]
    return [*others, *timed], choose([single, *timed], least), contended


def to_classifier(candidate: Candidate, models: Mapping[Model, Classifier]) -> Classifier:
    members = [models[model] for model in candidate.models]
    if len(members) == 1:
        return members[0]
    return replace(Cascade.of(members, candidate.thresholds), sent_on=candidate.sent_on)


def save(
    chosen: Candidate,
    models: Mapping[Model, Classifier],
    validation: float,
    folder: Path,
) -> Path:
    """Write the chosen model or cascade into ``folder``, and return that.

    Args:
        validation: its score on the validation split.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of the same search, run before
    classifier = to_classifier(chosen, models)
    if isinstance(classifier, Cascade):
        classifier = replace(classifier, select=chosen.select, validation=validation)
    return classifier.save(folder)


def save_answers(labels: Labels, answers: Answers, folder: Path) -> None:
    """What the chosen model predicts on the validation split, as a job leaves it."""
    predicted, confidence = answers.predicted, answers.confidence
    table = pd.DataFrame({"label": labels, "predicted": predicted, "probability": confidence})
    table.to_csv(folder / PREDICTIONS, index=False)


def majority_line(rows: Rows, select: Split, validation: Split) -> show.Line:
    """Always answering the train rows' most frequent class."""
    answer, _ = Counter(get_labels(rows.train)).most_common(1)[0]
    constant = [np.full(len(split.labels), answer) for split in (select, validation)]
    return show.Line("majority class", select.score(constant[0]), constant[1])


def words_line(words: TfIdf, speed: Speed | None, select: Split, validation: Split) -> show.Line:
    return show.Line(
        what=show.TF_IDF,
        select=select.score(words.predict(select.texts)),
        predicted=words.predict(validation.texts),
        speed=speed.texts if speed else None,
        spread=speed.spread if speed else None,
        mb=words.megabytes,
    )


def candidate_line(
    each: Candidate,
    is_chosen: bool,
    answers: Mapping[Model, Answers],
    models: Mapping[Model, Classifier],
) -> show.Line:
    found, _ = join([answers[model] for model in each.models], each.thresholds)
    return show.Line(
        what=show.name(each),
        select=each.select,
        predicted=found.predicted,
        speed=each.speed,
        spread=each.spread,
        mb=sum(megabytes(models[model]) for model in each.models),
        candidate=each,
        is_chosen=is_chosen,
    )
