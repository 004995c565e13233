"""A single job's model beside its uncut one and cheap baselines."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from skip_exp.config.schema import Config
from skip_exp.phases.prepare import prepare
from skip_exp.results import PREDICTIONS, Result
from skip_exp.skill.skill import Skill
from skip_exp.utils import console
from skip_exp.within import show
from skip_exp.within.baselines import describe_baselines, fit_baselines
from skip_exp.within.choose import REFERENCE, Candidate, Cut, Split
from skip_exp.within.measure import time_beside


def weigh(cfg: Config, skill: Skill, result: Result) -> None:
    """Log a finished job's model beside its uncut one and baselines, with intervals and speeds.

    Args:
        skill, result: of the job, in its folder.

    Raises:
        SkipError: the rows cannot be read any more.
    """
    # The job has logged all of this before.
    with console.say_nothing():
        job = prepare(cfg)
        rows = job.data
        select = Split.of(rows, rows.select)
        validation = Split.of(rows, rows.validation)
        baselines = fit_baselines(job, skill.about, Split.of(rows, rows.train))

    # Speed needs no trained weights: the job has stored the uncut model's answers alone.
    skills = {"final": skill}
    cuts = {"dense": Cut(0.0), "final": Cut(result["ratio"], cfg.prune.layers)}
    if result["ratio"]:
        skills = {"dense": replace(skill, model=job.new_model().eval()), "final": skill}
    opened = list(skills.values())
    timing = time_beside(opened, opened, baselines, select, validation)

    answers = pd.read_csv(Path(cfg.output_dir) / PREDICTIONS).rename(columns={"predicted": "final"})
    lines = describe_baselines(rows, baselines, timing.baselines, select, validation)
    for state, speed in zip(skills, timing.models, strict=True):
        score = result["select"][state]
        candidate = Candidate(cuts[state], REFERENCE, score, limit=0.0, speed=speed.rate("one"))
        lines.append(
            show.Line(
                model=candidate.name,
                select=score,
                predicted=answers[state].to_numpy(),
                speed=speed,
                mb=skills[state].megabytes,
                candidate=candidate,
                is_chosen=state == "final",
            )
        )

    frame = show.to_frame(lines, validation)
    sentences = show.judge_baselines(frame, contended=timing.contended)
    sentences += show.explain_rows(frame, rows)
    show.tell(frame, validation, sentences)
