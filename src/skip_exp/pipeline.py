"""The job, phase by phase: tune -> attribute -> prune -> retune -> test -> benchmark."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.cache.store import JOB_STAGE, Entry
from skip_exp.config.schema import Config
from skip_exp.logger.build import mirror, open_loggers
from skip_exp.phases.finish import add_scores, begin_result, finish, unpack
from skip_exp.phases.fit import retune, tune
from skip_exp.phases.job import Job
from skip_exp.phases.measure import benchmark, test
from skip_exp.phases.prepare import prepare
from skip_exp.phases.prune import attribute, log_reached, prune
from skip_exp.results import Result
from skip_exp.utils import files
from skip_exp.utils.console import interrupts
from skip_exp.utils.timing import Clock

log = logging.getLogger(__name__)


def run(cfg: Config) -> Result:
    """Run one job, unless it is done, and write result, configuration and skill to its folder.

    Raises:
        SkipError: anything the user can fix, in one line.
    """
    job = prepare(cfg)
    write_config(job.cfg, job.key)
    clock = Clock(phases(cfg))
    loggers: list[Logger] = []
    with interrupts(), ExitStack() as stack:

        def compute() -> Entry:
            unfinished = job.cache.unfinished(JOB_STAGE, job.key, "run")
            loggers.extend(stack.enter_context(open_loggers(job.cfg, unfinished)))
            return run_phases(job, clock, loggers)

        # Whoever asks for the same job meanwhile waits for this one, and answers from the cache.
        done = job.cache.get(JOB_STAGE, job.key, compute, cfg.sweep.skip_done)
        if done.hit:
            log.info("done before: answered from %s", cfg.cache.dir)
            unpack(job, done)
        # A speed is that of this machine: it is no part of the job's entry.
        latency = {}
        if cfg.benchmark.enabled:
            with clock("benchmark"):
                latency = benchmark(job, done)
        seconds = {} if done.hit else clock.seconds
        result = begin_result(job).replace(
            **done.values["result"],
            latency=latency,
            seconds={phase: round(value, 3) for phase, value in seconds.items()},
        )
        results.write(job.output, result)
        if not done.hit:
            mirror(loggers, result.to_dict(), job.output)
    return result


def write_config(cfg: Config, key: str) -> None:
    """The resolved configuration, beside where the result will be.

    Raises:
        SkipError: the folder cannot be written, or holds another job's finished result.
    """
    output = Path(cfg.output_dir)
    results.check_folder(output, key)
    content = OmegaConf.to_yaml(OmegaConf.create(asdict(cfg))).encode()
    files.save(output / results.CONFIG_FILE, content, f"output_dir={output}")


def phases(cfg: Config) -> list[str]:
    """The phases that a job works through, in order."""
    names = ["tune", "attribute", "prune"]
    if cfg.retune.enabled:
        names.append("retune")
    names.append("test")
    if cfg.benchmark.enabled:
        names.append("benchmark")
    return names


def run_phases(job: Job, clock: Clock, loggers: Sequence[Logger]) -> Entry:
    """Tune a model, find the neurons that its task needs, prune the others, tune it again."""
    settings = job.cfg.prune
    result = Result()
    with clock("tune"):
        dense, result.cache["tune"] = tune(job, loggers)
    with clock("attribute"):
        relevance, result.cache["attribution"] = attribute(job, dense)
    with clock("prune"):
        seed = job.seed("prune")
        pruned, keep = prune(dense.value, relevance.value, settings, settings.ratio, seed)
        log_reached(dense.value, pruned, keep, settings.ratio)
    with clock("retune"):
        final, epochs = retune(job, dense, pruned, loggers)
    with clock("test"):
        scored = test(job, dense, pruned, final)
        add_scores(job, result, scored)
    result.ratio = settings.ratio
    result.epochs = epochs
    return finish(
        job,
        result,
        dense=dense.value,
        final=final,
        keep=keep,
        scored=scored,
        is_lasting=relevance.keep,
    )
