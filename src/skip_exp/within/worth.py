"""Was it worth it? A cut model beside the uncut one and cheap baselines, on the same rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.schema import Config
from skip_exp.phases.prepare import prepare
from skip_exp.results import PREDICTIONS
from skip_exp.skill.skill import Skill
from skip_exp.utils import console
from skip_exp.within import show
from skip_exp.within.baselines import describe_baselines, fit_baselines
from skip_exp.within.choose import REFERENCE, Candidate, Cut, Split
from skip_exp.within.measure import time_beside


def weigh(cfg: Config, skill: Skill, result: Any) -> None:
    """Log a finished job's model beside its uncut one and baselines, with intervals and speeds.

    Args:
        skill, result: of the job, in its folder.

    Raises:
        SkipError: the rows cannot be read any more.
    """
    with console.say_nothing():
        job = prepare(cfg)
        rows = job.data
        train, select = Split.of(rows, rows.train), Split.of(rows, rows.select)
        validation = Split.of(rows, rows.validation)
        baselines = fit_baselines(job, skill.about, train, select)
    cut = Cut(result["ratio"], cfg.prune.layers)
    models = [("final", "predicted", cut, skill)]
    if cut.ratio:  # an untrained model is as fast
        uncut = replace(skill, model=job.new_model().eval())
        models.insert(0, ("dense", "dense", Cut(0.0), uncut))
    opened = [each for *_, each in models]
    speeds, contended = time_beside(opened, opened, baselines, select, validation)
    answers = pd.read_csv(Path(cfg.output_dir) / PREDICTIONS)
    lines = describe_baselines(rows, baselines, speeds[len(opened) :], select, validation)
    for (state, column, cut, model), speed in zip(models, speeds, strict=False):
        each = Candidate(cut, REFERENCE, result["select"][state], 0.0, speed.rate("one"))
        predicted, is_final = answers[column].to_numpy(), state == "final"
        made = each.name, each.select, predicted, speed, model.megabytes, each
        lines.append(show.Line(*made, is_chosen=is_final))
    frame = show.to_frame(lines, validation)
    names = [line.model for line in lines if line.candidate]
    show.tell(frame, names, validation, show.judge_baselines(frame, contended=contended))
