"""From jobs at several ratios to the fastest model within some points, ready to load."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from skip_exp import results
from skip_exp.cache.version import digest
from skip_exp.config.schema import Config
from skip_exp.config.together import check
from skip_exp.data.files import SELECT
from skip_exp.data.sources import Tables
from skip_exp.errors import ConfigError
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import prepare
from skip_exp.pipeline import write_config
from skip_exp.pruning.allocate import most
from skip_exp.results import Result
from skip_exp.skill.cascade import open_classifier
from skip_exp.skill.classifier import Classifier
from skip_exp.within import show
from skip_exp.within.baselines import TfIdf
from skip_exp.within.choose import FITTED, add_errors, join, list_candidates
from skip_exp.within.measure import (
    TIMED_TEXTS,
    ask,
    candidate_line,
    choose_timed,
    majority_line,
    measure,
    save,
    save_answers,
    words_line,
)
from skip_exp.within.row import CHOSEN, make_result
from skip_exp.within.scores import Split

log = logging.getLogger(__name__)

CUTS = (0.9, 0.7, 0.52, 0.95)  # ratios, in the order in which they are tried
JOBS = "jobs"  # folder of the jobs, by ratio
EXPORTS = "int8"  # folder of the exports with 8-bit weights, by ratio and skill
KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def find(
    cfg: Config,
    tables: Tables | None,
    budget: float | None,
    run_job: Callable[[Config], Result],
) -> Classifier:
    """The fastest model that loses at most ``prune.within`` points to the uncut one.

    The loss on the selection slice and its standard error together must stay within them. The
    folder ``cfg.output_dir`` then holds ``chosen/``, ``frontier.csv``, ``frontier.png`` and
    ``result.json``.

    Args:
        cfg: with ``prune.within``; the ratios of its jobs are set here.
        budget: minutes after which no further ratio is tried; None: all are.
        run_job: runs a job and returns its result.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    # Many models in one process: else oneDNN forgets kernels of one while the others answer.
    os.environ.setdefault(KERNELS, "65536")
    root, within = Path(cfg.output_dir), cast(float, cfg.prune.within)
    uncut = prepare(at_ratio(cfg, 0.0), tables)
    key, rows = digest([uncut.key, within])[:16], uncut.data
    select, validation = Split.of(rows, rows.select), Split.of(rows, rows.validation)
    if len({*select.labels}) == 1:  # which a constant answer fits
        why = f"the selection slice has a single label: give task.files.{SELECT} or a ratio"
        raise ConfigError("prune.within", within, why)
    write_config(cfg, key)
    ratios = [0.0, *list_ratios(uncut, cfg.prune.sites, CUTS)]
    jobs = run_jobs([at_ratio(cfg, ratio) for ratio in ratios], budget, run_job)
    skills = {ratio: root / JOBS / f"{ratio:g}" / str(job.skill) for ratio, job in jobs.items()}
    words = TfIdf.fit(Split.of(rows, rows.train), select)
    texts = [*select.texts, *validation.texts][:TIMED_TEXTS]
    models, words_speed, contended = measure(skills, words, select, texts, root / EXPORTS)
    (reference,) = (each for each in models if (each.ratio, each.form) == (0.0, "fp32"))
    best, bound = select.score(reference.answers.predicted), within / 100
    least = best - bound
    candidates = list_candidates([*models], select.score, best - FITTED * bound)
    candidates = add_errors(candidates, reference, select)
    candidates, chosen, also_contended = choose_timed(candidates, least, models, texts)
    contended = contended or also_contended
    answers = {model: ask(classifier, validation) for model, classifier in models.items()}
    lines = [majority_line(rows, select, validation)]
    if words:
        lines.append(words_line(words, words_speed, select, validation))
    for each in candidates:
        lines.append(candidate_line(each, each is chosen, answers, models))
    answered, _ = join([answers[model] for model in chosen.models], chosen.thresholds)
    place = save(chosen, models, validation.score(answered.predicted), root / CHOSEN)
    frame = show.to_frame(lines, validation)
    show.write(frame, root, validation.metric, contended=contended)
    save_answers(validation.labels, answered, root)
    results.write(root, make_result(cfg, key, jobs, frame, chosen, contended=contended))
    told = show.explain(frame, candidates, chosen, bound, select, contended=contended)
    is_half = [model.form for model in chosen.models] == ["bf16"]
    show.tell(frame, lines, validation, [*told, *show.next_steps(place, is_half)])
    return open_classifier(place, precision="bf16" if is_half else "32-true")


def at_ratio(cfg: Config, ratio: float) -> Config:
    """The configuration of a job that cuts so much; uncut, nothing is tuned again.

    Raises:
        ConfigError: values that exclude each other.
    """
    retune = replace(cfg.retune, enabled=cfg.retune.enabled and ratio > 0)
    job = replace(
        cfg,
        prune=replace(cfg.prune, ratio=ratio, within=None),
        retune=retune,
        benchmark=replace(cfg.benchmark, enabled=False),
        output_dir=str(Path(cfg.output_dir) / JOBS / f"{ratio:g}"),
    )
    check(job)
    return job


def list_ratios(uncut: Job, sites: list[str], cuts: Sequence[float]) -> list[float]:
    """Those of ``cuts`` that ``sites`` can reach; the log says what is left out."""
    shapes = [block.shape() for block in uncut.backbone.family.blocks(uncut.backbone.model)]
    reached = [ratio for ratio in cuts if ratio <= most(shapes, sites)]
    if left_out := [f"{ratio:g}" for ratio in cuts if ratio not in reached]:
        log.info("left out: ratio %s, beyond prune.sites=%s", ", ".join(left_out), sites)
    return reached


def run_jobs(
    jobs: Sequence[Config], budget: float | None, run_job: Callable[[Config], Result]
) -> dict[float, Result]:
    """The result of every job, by ratio. The first one runs, whatever the budget in minutes."""
    done: dict[float, Result] = {}
    begin, last = time.monotonic(), 0.0
    for job in jobs:
        start = time.monotonic()
        if budget is not None and done and start - begin + last > 60 * budget:
            log.info("budget: %d of %d ratios are done, no further one", len(done), len(jobs))
            break
        log.info("ratio %g: job %d of %d", job.prune.ratio, len(done) + 1, len(jobs))
        done[job.prune.ratio] = run_job(job)
        last = time.monotonic() - start
    return done
