"""From jobs at several ratios to the fastest model within some points; a single model, weighed."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from skip_exp import results
from skip_exp.cache.version import code_of, digest
from skip_exp.config.groups import PruneConfig
from skip_exp.config.schema import Config
from skip_exp.config.together import check_job
from skip_exp.data.rows import SELECT, Rows
from skip_exp.errors import ConfigError
from skip_exp.forms.registry import FILES, FORMS, list_available
from skip_exp.models.surgery import shape_of
from skip_exp.outcomes.scores import Labels
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.pipeline import write_config
from skip_exp.pruning import allocate
from skip_exp.results import PREDICTIONS, Choice, Latency, MainScores, Result, Scores
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.record import read_about
from skip_exp.skill.skill import Skill
from skip_exp.utils import console, timing
from skip_exp.within import show
from skip_exp.within.baselines import describe_baselines, fit_baselines
from skip_exp.within.choose import (
    REFERENCE,
    Candidate,
    Cut,
    Speed,
    Split,
    choose,
    judge,
    limit_share,
    pick_shown,
)
from skip_exp.within.measure import Place, measure, name_cut, predict, save_all, time_beside

log = logging.getLogger(__name__)

RATIOS = (0.9, 0.7, 0.52)  # in the order in which they are tried, the fastest first
DEEPEST = 0.9  # before, it is tried in half of the layers, which is 1.3 times as fast
JOBS = "jobs"  # folder of the jobs, by cut
CHOSEN = "chosen"  # folder of the model that is chosen
KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
OF_ONE_RUN = ("calibration", "cache", "seconds")  # fields of a single job alone


def find(cfg: Config, run_job: Callable[[Config], Result]) -> Classifier:
    """The fastest model that loses at most ``prune.within`` points to the uncut one.

    The 90 % limit of its loss, by the selection slice, must stay within them. By ``prune.fastest``
    the time of one text counts, or batches. The folder ``cfg.output_dir`` then
    holds ``chosen/``, ``frontier.csv``, ``frontier.png`` and ``result.json``.

    Args:
        cfg: with ``prune.within``; the ratios of its jobs are set here.
        run_job: runs a job and returns its result.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    # Many models in one process: else oneDNN forgets kernels of one while the others answer.
    os.environ.setdefault(KERNELS, "65536")
    root, within = Path(cfg.output_dir), cast(float, cfg.prune.within)
    uncut, fastest = prepare(of_cut(cfg, Cut(0.0))), cfg.prune.fastest
    rows = uncut.data
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    if len({*select.labels}) == 1:  # which a constant answer fits
        raise ConfigError(
            "prune.within",
            within,
            f"the selection slice has a single label: give task.files.{SELECT} or a ratio",
        )
    asked = replace(uncut, cfg=replace(uncut.cfg, prune=cfg.prune, retune=cfg.retune))
    key = digest([asked.key, code_of(__name__)])[:16]  # its own settings, and how it chooses
    write_config(cfg, key)
    reached, bound = list_cuts(uncut, cfg.prune), within / 100
    # Too few rows do not show so small a loss, whatever a cut answers.
    cuts = [Cut(0.0), *(reached if limit_share(0, len(select.labels)) <= bound else [])]
    announce = Steps(len(cuts) + 2)
    jobs, places, judged = try_cuts(cfg, run_job, cuts, select, announce)
    announce("baselines")
    baselines = fit_baselines(
        uncut,
        read_about(root / JOBS / name_cut(cuts[0]) / str(jobs[cuts[0]].skill)),
        Split.of(rows, rows.train),
        select,
    )
    announce("timing")
    opened, speeds, contended = measure(places, baselines, select, validation)
    candidates = [
        replace(model, speed=speed.rate(fastest))
        for model, speed in zip(judged, speeds, strict=False)  # then the baselines' speeds
    ]
    models = dict(zip(candidates, opened, strict=True))
    chosen = choose(candidates, bound)
    lines = describe_baselines(rows, baselines, speeds[len(candidates) :], select, validation)
    lines += describe_models(models, speeds, chosen, validation)
    frame = show.to_frame(lines, validation)
    show.write(frame, root, validation.metric, contended=contended)
    place = save_chosen(models[chosen], root, rows, validation)
    speedup = chosen.speed / candidates[0].speed
    results.write(
        root, make_result(cfg, key, jobs[chosen.cut], frame, speedup, contended=contended)
    )
    form, names = FORMS[chosen.form], [each.name for each in pick_shown(candidates, chosen)]
    show.tell(
        frame,
        names,
        validation,
        [
            *show.explain(frame, candidates, chosen, bound, len(select.labels)),
            *show.explain_rows(frame, names, rows),
            *show.judge_baselines(frame, contended=contended),
            *show.next_steps(place, form.precision),
        ],
    )
    return form.open(place)


def try_cuts(
    cfg: Config,
    run_job: Callable[[Config], Result],
    cuts: Sequence[Cut],
    select: Split,
    announce: Callable[[str], None],
) -> tuple[dict[Cut, Result], list[Place], list[Candidate]]:
    """Jobs, skills and candidates of ``cuts``, until one stays within the bound in every form.

    Args:
        cuts: none first, then the fastest ones first, so that none is missed.
    """
    root, forms, bound = Path(cfg.output_dir), list_available(), cast(float, cfg.prune.within) / 100
    jobs: dict[Cut, Result] = {}
    places: list[Place] = []
    predictions: list[Labels] = []
    for cut in cuts:
        announce(str(cut))
        jobs[cut] = run_job(of_cut(cfg, cut))
        skill = root / JOBS / name_cut(cut) / str(jobs[cut].skill)
        saved = save_all(cut, skill, forms, root / FILES)
        places += saved
        predictions += [predict(place, select) for place in saved]
        judged = judge([(cut, form.name) for cut, form, _ in places], predictions, select)
        if cut.ratio and all(each.limit <= bound for each in judged[-len(saved) :]):
            break
    return jobs, places, judged


def describe_models(
    models: Mapping[Candidate, Classifier],
    speeds: Sequence[Speed],
    chosen: Candidate,
    validation: Split,
) -> list[show.Line]:
    """Every candidate with its answers to the validation split."""
    lines = []
    for (candidate, model), speed in zip(models.items(), speeds, strict=False):
        lines.append(
            show.Line(
                model=candidate.name,
                select=candidate.select,
                predicted=np.array(model.probabilities(validation.texts)).argmax(1),
                speed=speed,
                mb=model.megabytes,
                candidate=candidate,
                is_chosen=candidate is chosen,
            )
        )
    return lines


def save_chosen(model: Classifier, root: Path, rows: Rows, validation: Split) -> Path:
    """The folder of the model, beside its answers to the validation split, as a job has them."""
    probabilities = np.array(model.probabilities(validation.texts))
    answers = rows.spec.outcome.tabulate(validation.labels.tolist(), probabilities, None)
    pd.DataFrame(answers).to_csv(root / PREDICTIONS, index=False)
    shutil.rmtree(root / CHOSEN, ignore_errors=True)  # of the same search, run before
    return model.save(root / CHOSEN)


class Steps:
    """Announces each of ``total`` steps, and the time left if those to come take as long."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.perf_counter()

    def __call__(self, what: str) -> None:
        place = f"step {self.done + 1} of {self.total}: {what}"
        if self.done:
            rest = (time.perf_counter() - self.start) / self.done * (self.total - self.done)
            place += f", about {console.duration(rest)} left"
        log.info("%s", place)
        self.done += 1


def of_cut(cfg: Config, cut: Cut) -> Config:
    """The configuration of a job that cuts so much; uncut, nothing is tuned again.

    Raises:
        ConfigError: values that exclude each other.
    """
    retune = replace(cfg.retune, enabled=cfg.retune.enabled and cut.ratio > 0)
    job = replace(
        cfg,
        # One key for all, whatever is fastest.
        prune=replace(cfg.prune, **cut._asdict(), within=None, fastest="one"),
        retune=retune,
        benchmark=replace(cfg.benchmark, enabled=False),
        output_dir=str(Path(cfg.output_dir) / JOBS / name_cut(cut)),
    )
    check_job(job)
    return job


def list_cuts(uncut: Job, prune: PruneConfig) -> list[Cut]:
    """The cuts that sites and layers can reach; the log says what is left out."""
    shapes = [shape_of(block) for block in uncut.backbone.family.blocks(uncut.backbone.model)]
    allocate.check(  # of the cuts, before the uncut model is tuned
        shapes, ratio=None, sites=prune.sites, allocation=prune.allocation, layers=prune.layers
    )
    cuts = [Cut(ratio, prune.layers) for ratio in RATIOS]
    depth = 1 + max(shape.name.layer for shape in shapes)
    if prune.layers is None and depth > 1:
        cuts.insert(0, Cut(DEEPEST, depth // 2))
    reached = []
    for cut in cuts:
        low, high = allocate.bounds(shapes, prune.sites, cut.layers)
        if low <= cut.ratio <= high:
            reached.append(cut)
        else:
            log.info(
                "left out: %s: prune.sites and prune.layers can reach %.3g to %.3g", cut, low, high
            )
    return reached


def make_result(
    cfg: Config, key: str, job: Result, frame: pd.DataFrame, speedup: float, *, contended: bool
) -> Result:
    """What a search leaves behind: the scores of the uncut and of the chosen model.

    Ratio and sizes are those of the chosen model.

    Args:
        key: stands for the search, as `job_id`.
        job: result of the chosen model's job.
        frame: see :func:`skip_exp.within.show.to_frame`.
        speedup: on the user's texts, over the uncut model in fp32.
    """
    fields = job.to_dict()
    (best,) = frame[frame["chosen"]].to_dict("records")
    (uncut,) = frame[frame["model"] == show.UNCUT].to_dict("records")
    place = timing.place("cpu")
    if cfg.prune.fastest == "one":
        place["threads"] = 1
    found = {
        "job_id": key,
        "sweep": cfg.sweep.id,
        "metric": MainScores(
            name=fields["metric"]["name"], dense=uncut["validation"], final=best["validation"]
        ),
        "metrics": {},
        "select": Scores(dense=uncut["select"], final=best["select"]),
        "choice": Choice(model=best["model"], ms=best["ms"], texts_per_s=best["texts_per_s"]),
        "latency": Latency(
            **place,
            dtype=best["form"],
            speedup=speedup,
            contended=contended,
        ),
        "skill": CHOSEN,
        "config": asdict(cfg) | {"prompt": fields["config"]["prompt"]},  # may be its start's
        "finished": results.now(),
    }
    kept = {name: value for name, value in fields.items() if name not in OF_ONE_RUN}
    return Result(**kept | found)


def weigh(cfg: Config, skill: Skill, result: Result) -> None:
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
        candidate = Candidate(cut, REFERENCE, result["select"][state], 0.0, speed.rate("one"))
        lines.append(
            show.Line(
                model=candidate.name,
                select=candidate.select,
                predicted=answers[column].to_numpy(),
                speed=speed,
                mb=model.megabytes,
                candidate=candidate,
                is_chosen=state == "final",
            )
        )
    frame = show.to_frame(lines, validation)
    names = [line.model for line in lines if line.candidate]
    show.tell(
        frame,
        names,
        validation,
        [
            *show.judge_baselines(frame, contended=contended),
            *show.explain_rows(frame, names, rows),
        ],
    )
