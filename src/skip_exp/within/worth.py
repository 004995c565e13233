"""Was it worth it? One cut model beside the most frequent class and TF-IDF, on the same rows."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.schema import Config
from skip_exp.phases.prepare import prepare
from skip_exp.results import PREDICTIONS
from skip_exp.skill.skill import Skill
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf, describe_baselines
from skip_exp.within.choose import REFERENCE, Candidate, Split
from skip_exp.within.measure import time_beside


def weigh(cfg: Config, skill: Skill, result: Any) -> None:
    """Log a finished job's model beside cheap baselines, with intervals and speeds.

    Args:
        skill, result: of the job, in its folder.

    Raises:
        SkipError: the rows cannot be read any more.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the job has said what there is to say of its rows
    try:
        rows = prepare(cfg).data
    finally:
        logging.disable(before)
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    words = TfIdf.fit(Split.of(rows, rows.train), select)
    (speed,), words_speed, contended = time_beside([skill], words, select, validation)
    model = Candidate(
        ratio=result["ratio"],
        form=REFERENCE,
        select=result["select"]["final"],
        error=0.0,
        speed=speed.texts,
        spread=speed.spread,
    )
    answers = pd.read_csv(Path(cfg.output_dir) / PREDICTIONS)
    predicted = answers["predicted"].to_numpy()
    lines = describe_baselines(rows, words, words_speed, select, validation)
    lines.append(show.describe_model(model, predicted, skill.megabytes, is_chosen=True))
    frame = show.to_frame(lines, validation)
    show.tell(frame, validation, show.judge_words(frame, contended=contended))
