"""Was it worth it? One cut model beside the most frequent class and TF-IDF, on the same rows."""

import logging
from collections.abc import Callable

from skip_exp.config.schema import Config
from skip_exp.data.sources import Tables
from skip_exp.phases.prepare import prepare
from skip_exp.skill.forms import time_in_turns
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import Model, make_candidate
from skip_exp.within.measure import (
    TIMED_TEXTS,
    ask,
    candidate_line,
    majority_line,
    words_line,
)
from skip_exp.within.scores import Split


def weigh(cfg: Config, tables: Tables | None, skill: Skill, ratio: float) -> None:
    """Log a finished job's model beside cheap baselines, with intervals and speeds.

    Raises:
        SkipError: the rows cannot be read any more.
    """
    logging.disable(logging.WARNING)  # the job has said what there is to say of its rows
    try:
        rows = prepare(cfg, tables).data
    finally:
        logging.disable(logging.NOTSET)
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    words = TfIdf.fit(Split.of(rows, rows.train), select)
    calls: list[Callable[[list[list[str]]], object]] = [skill.probabilities]
    if words:
        calls.append(words.predict)
    texts = [*select.texts, *validation.texts][:TIMED_TEXTS]
    speeds, contended = time_in_turns(calls, texts)
    model = Model(ratio, "fp32", ask(skill, select), speeds[0].texts, speeds[0].spread)
    candidate, answers = make_candidate([model], [], select.score), {model: ask(skill, validation)}
    lines = [majority_line(rows, select, validation)]
    if words:
        lines.append(words_line(words, speeds[1], select, validation))
    lines.append(candidate_line(candidate, True, answers, {model: skill}))
    frame = show.to_frame(lines, validation)
    show.tell(frame, lines, validation, show.judge_words(frame, contended=contended))
