"""The job, phase by phase: tune -> attribute -> prune -> retune -> test -> benchmark."""

from typing import Any

from skip_exp.config.schema import Config
from skip_exp.data.sources import Tables
from skip_exp.job import attempts
from skip_exp.job.finish import Measured, finish
from skip_exp.job.job import Job
from skip_exp.job.prepare import prepare
from skip_exp.logger.build import build_logger
from skip_exp.phases.attribute import attribute
from skip_exp.phases.benchmark import again, benchmark
from skip_exp.phases.prune import prune
from skip_exp.phases.retune import retune
from skip_exp.phases.search import search
from skip_exp.phases.test import test
from skip_exp.phases.tune import tune
from skip_exp.results import Result
from skip_exp.utils import bars
from skip_exp.utils.console import interrupts
from skip_exp.utils.files import full_disk_is_refused
from skip_exp.utils.timing import Clock


def run(cfg: Config, tables: Tables | None = None) -> Result:
    """Run one job, unless it is done, and write result, configuration and skill to its folder.

    Args:
        tables: of the files of ``cfg.task`` those that are read already, by path.

    Raises:
        SkipError: anything the user can fix, in one line.
    """
    job = prepare(cfg, tables)
    with attempts.hold(cfg, job.job_id, job.cache) as note:
        if done := attempts.finished(cfg, job.job_id, note):
            return attempts.reuse(cfg, done, again(job, done), note)
        with full_disk_is_refused(job.output), bars.allowed(cfg.trainer.progress), interrupts():
            result = run_phases(job)
        attempts.add(note, job.output)
        return result


def phases(cfg: Config) -> list[str]:
    """The phases that a job works through, in order."""
    left_out = {
        "search": cfg.prune.goal.max_drop is None,
        "retune": not cfg.retune.enabled,
        "benchmark": not cfg.benchmark.enabled,
    }
    every = ("tune", "attribute", "search", "prune", "retune", "test", "benchmark")
    return [phase for phase in every if not left_out.get(phase)]


def run_phases(job: Job) -> Result:
    """Tune a soft prompt, find the neurons that it needs, prune the others, tune it again."""
    clock, logger = Clock(phases(job.cfg)), build_logger(job.cfg)
    latency: dict[str, Any] = {}
    probes: dict[str, float] = {}
    with clock("tune"):
        dense, tune_hit = tune(job, logger)
    with clock("attribute"):
        relevance, attribution_hit = attribute(job, dense)
    ratio = job.cfg.prune.goal.ratio
    if job.cfg.prune.goal.max_drop is not None:
        with clock("search"):
            ratio, probes = search(job, dense, relevance)
    with clock("prune"):
        pruned = prune(job, dense, relevance, ratio)
    with clock("retune"):
        final, epochs = retune(job, dense, pruned, logger)
    with clock("test"):
        scores = test(job, dense, pruned.model, final)
    whole = job.whole(dense)
    if job.cfg.benchmark.enabled:
        with clock("benchmark"):
            latency = benchmark(job, whole, final)
    measured = Measured(
        dense=dense,
        final=final,
        whole=whole,
        keep=pruned.keep,
        method=pruned.method | {"epochs": epochs},
        ratio=ratio,
        probes=probes,
        scores=scores,
        latency=latency,
        seconds=clock.seconds,
        hits={"tune": tune_hit, "attribution": attribution_hit},
    )
    return finish(job, measured, logger)
