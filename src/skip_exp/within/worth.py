"""Was it worth it? One cut model beside the most frequent class and TF-IDF, on the same rows."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.schema import Config
from skip_exp.data.sources import Tables
from skip_exp.phases.prepare import prepare
from skip_exp.results import PREDICTIONS
from skip_exp.skill.forms import megabytes, time_in_turns
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf
from skip_exp.within.measure import TIMED_TEXTS, majority_line, words_line
from skip_exp.within.scores import Split


def weigh(cfg: Config, tables: Tables | None, skill: Skill, result: Any) -> None:
    """Log a finished job's model beside cheap baselines, with intervals and speeds.

    Args:
        skill, result: of the job, in its folder.

    Raises:
        SkipError: the rows cannot be read any more.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the job has said what there is to say of its rows
    try:
        rows = prepare(cfg, tables).data
    finally:
        logging.disable(before)
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    words = TfIdf.fit(Split.of(rows, rows.train), select)
    calls: list[Callable[[list[list[str]]], object]] = [skill.probabilities]
    if words:
        calls.append(words.predict)
    speeds, contended = time_in_turns(calls, [*select.texts, *validation.texts][:TIMED_TEXTS])
    lines = [majority_line(rows, select, validation)]
    if words:
        lines.append(words_line(words, speeds[1], select, validation))
    answers = pd.read_csv(Path(cfg.output_dir) / PREDICTIONS)
    model = show.Line(
        what=show.name_model(result["ratio"], "fp32"),
        select=result["select"]["final"],
        predicted=answers["predicted"].to_numpy(),
        speed=speeds[0].texts,
        spread=speeds[0].spread,
        mb=megabytes(skill),
        is_chosen=True,
    )
    frame = show.to_frame([*lines, model], validation)
    show.tell(frame, [*lines, model], validation, show.judge_words(frame, contended=contended))
