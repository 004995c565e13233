"""One job of a command: if it fails, the others still run, and its result file says why."""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from skip_exp import results
from skip_exp.cache.version import digest
from skip_exp.config import refusals, together
from skip_exp.config.prune import name_goal
from skip_exp.errors import INTERRUPTED, SkipError
from skip_exp.job import answer
from skip_exp.sweep import progress, workers
from skip_exp.sweep.state import STARTED
from skip_exp.utils import console, imports

log = logging.getLogger(__name__)

PIPELINE = "skip_exp.pipeline"
TRACEBACKS = "SKIP_EXP_TRACEBACKS"  # set if the user set HYDRA_FULL_ERROR=1


def job(cfg: DictConfig) -> None:
    """Run one job. An error fails this job only and is written to its result file."""
    error = None
    logging.raiseExceptions = False  # the job reports a full disk once, not each log line
    try:
        progress.announce()
        OmegaConf.resolve(cfg)
        cfg.sweep.id = cfg.sweep.id or sweep_id()
        settings = together.job_config(cfg)
        workers.settle(settings.trainer)
        if answer.answer_known(settings):
            return
        if PIPELINE not in sys.modules:
            log.info(console.LOADING)
        pipeline = imports.load(PIPELINE)  # late: torch takes seconds to import
        logging.captureWarnings(True)  # into the log file
        console.quiet_lightning()
        pipeline.run(settings)
    except (KeyboardInterrupt, SystemExit):  # as Lightning ends a worker
        error = INTERRUPTED
        raise
    except Exception as problem:
        error = refusals.told(problem)
        _fail(cfg, problem, error)
    finally:
        if runs := sys.modules.get("skip_exp.logger.runs"):  # otherwise no run is open
            runs.close(error)


def sweep_id() -> str | None:
    """Name of the job's sweep, the same for every run of the same command."""
    hydra = HydraConfig.get()
    file = Path(hydra.sweep.dir) / "multirun.yaml"
    if hydra.mode != RunMode.MULTIRUN or not file.is_file():
        return None
    sweep: Any = OmegaConf.load(file)
    params = OmegaConf.to_container(sweep.hydra.sweeper.get("params") or OmegaConf.create({}))
    identity = [sweep.hydra.job.config_name, sorted(sweep.hydra.overrides.task), params]
    name = "sweep" if identity[0] == "config" else identity[0]
    return f"{name}-{digest(identity)[:8]}"


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
    if not isinstance(problem, SkipError):
        folder = os.path.relpath(cfg.output_dir)
        error = f"{error} (traceback: {folder}/{HydraConfig.get().job.name}.log)"
    print(f"error: {_name(cfg)}{error}", file=sys.stderr, flush=True)


def _name(cfg: DictConfig) -> str:
    """``job 2 (rte, minilm, 1.5): `` in a multirun; nothing for a single job."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return ""
    return (
        f"job {hydra.job.num + 1} ({cfg.task.name}, {cfg.backbone.name}, {name_goal(cfg.prune)}): "
    )
