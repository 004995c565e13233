"""One job of a command: if it fails, the others still run, and its result file says why."""

import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from skip_exp import results
from skip_exp.config import together
from skip_exp.config.compose import describe_failure
from skip_exp.config.prune import name_goal
from skip_exp.config.schema import Config, list_objectives
from skip_exp.errors import INTERRUPTED, SkipError
from skip_exp.sweep import workers
from skip_exp.sweep.check import BASIC, list_jobs
from skip_exp.sweep.finish import STARTED, SWEEP, list_since, start_of
from skip_exp.sweep.search import is_search, name_command
from skip_exp.utils import console
from skip_exp.utils.bars import duration

log = logging.getLogger(__name__)

TRACEBACKS = "SKIP_EXP_TRACEBACKS"  # set if the user set HYDRA_FULL_ERROR=1


def run_job(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run one job. An error fails this job only and is written to its result file.

    Returns:
        What ``sweep.objective`` names, for Hydra's sweepers; NaN if the job failed.
    """
    error = None
    logging.raiseExceptions = False  # the job reports a full disk once, not each log line
    try:
        announce()
        OmegaConf.resolve(cfg)
        cfg.sweep.id = cfg.sweep.id or sweep_id()
        settings = together.job_config(cfg)
        workers.settle(settings.trainer)
        if console.PIPELINE not in sys.modules:
            log.info(console.LOADING)
        pipeline = console.import_slow(console.PIPELINE)
        logging.captureWarnings(True)  # into the log file
        console.quiet_lightning()
        if settings.prune.within is not None:
            _find(settings, pipeline.run)
        else:
            pipeline.run(settings)
    except (KeyboardInterrupt, SystemExit):  # as Lightning ends a worker
        error = INTERRUPTED
        raise
    except Exception as problem:
        error = describe_failure(problem)
        _fail(cfg, problem, error)
    finally:
        _close_run(error)
    return read_objectives(cfg, error)


def read_objectives(cfg: DictConfig, error: str | None = None) -> float | tuple[float, ...] | None:
    """The fields of the job's result that ``sweep.objective`` names, as W&B's summary has them."""
    result = None if error else results.read_finished(cfg.output_dir)
    fields = results.flatten(result or {})
    values = tuple(
        float(fields.get(name, math.nan)) for name in list_objectives(cfg.sweep.objective)
    )
    return values if len(values) > 1 else next(iter(values), None)


def _find(settings: Config, run: Callable[[Config], results.Result]) -> None:
    """Find the model that `prune.within` asks for; each of its jobs has a W&B run of its own."""
    from skip_exp.within.run import find  # scikit-learn: not for a single job

    def run_one(cfg: Config) -> results.Result:
        result = run(cfg)
        _close_run(None)
        return result

    find(settings, run_one)


def _close_run(error: str | None) -> None:
    if runs := sys.modules.get("skip_exp.logger.runs"):  # otherwise no run is open
        runs.close(error)


def announce() -> None:
    """Log the number of a sweep's job and the time left.

    If jobs run in parallel, their following lines begin with their number.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    folder = Path(hydra.sweep.dir)
    number = hydra.job.num + 1
    total = _count_jobs(folder)
    place = f"{number} of {total}" if total else str(number)
    began = start_of(folder)
    done = len(list_since(began, folder, results.FILE))
    if 0 < done < total:
        # Before those, a search may have made others.
        rest = (time.time() - began) / done * (total - max(done, hydra.job.num))
        place += f", about {duration(rest)} left"
    log.info("job %s", place)
    if not hydra.launcher._target_.endswith(BASIC):
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):  # each job has its own log file
                handler.setFormatter(logging.Formatter(f"[{number}] %(message)s"))


def _count_jobs(folder: Path) -> int:
    """Number of jobs of the sweep; 0 if unknown."""
    try:
        sweep: Any = OmegaConf.load(folder / SWEEP)
        if is_search(sweep.hydra):
            return int(sweep.hydra.sweeper.n_trials)
        return len(list_jobs(sweep.hydra))
    except Exception as problem:  # a missing number fails no job
        log.debug("number of jobs: %s", problem)
        return 0


def sweep_id() -> str | None:
    """Name of the job's sweep, the same for every run of the same command."""
    hydra = HydraConfig.get()
    file = Path(hydra.sweep.dir) / SWEEP
    if hydra.mode != RunMode.MULTIRUN or not file.is_file():
        return None
    sweep: Any = OmegaConf.load(file)
    return name_command(sweep.hydra)


def _fail(cfg: DictConfig, problem: Exception, error: str) -> None:
    STARTED.failed = True
    log.debug(error, exc_info=problem)  # DEBUG goes to the job's log file only
    if os.environ.get(TRACEBACKS):
        traceback.print_exception(problem)
    plain: Any = OmegaConf.to_container(cfg)
    try:
        results.write_failed(cfg.output_dir, plain, error)
    except SkipError as unwritable:
        if not isinstance(problem.__cause__, OSError):  # else it says the same
            error = f"{error}; {unwritable}"
    hydra = HydraConfig.get()
    if not isinstance(problem, SkipError):
        folder = os.path.relpath(cfg.output_dir)
        error = f"{error} (traceback: {folder}/{hydra.job.name}.log)"
    if hydra.mode == RunMode.MULTIRUN:
        job = f"{cfg.task.name}, {cfg.backbone.name}, {name_goal(cfg.prune)}"
        error = f"job {hydra.job.num + 1} ({job}): {error}"
    print(f"error: {error}", file=sys.stderr, flush=True)
