"""One job of a command: if it fails, the others still run, and its result file says why.

A parallel launcher's worker takes its threads and one GPU before torch is imported. joblib's
workers inherit their share of the cores; Slurm assigns cores and GPUs itself.
"""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from skip_exp import results
from skip_exp.cache.version import digest
from skip_exp.config import together
from skip_exp.config.compose import describe_failure
from skip_exp.config.groups import name_goal
from skip_exp.config.schema import Config, TrainerConfig, list_objectives, register_resolver
from skip_exp.errors import SkipError, is_full_disk
from skip_exp.sweep.check import BASIC, list_jobs
from skip_exp.sweep.finish import SWEEP, list_since, note_failure, start_of
from skip_exp.utils import console
from skip_exp.utils.machine import list_gpus

log = logging.getLogger(__name__)

# Launchers whose workers run side by side on one machine and all see its GPUs.
SIDE_BY_SIDE = ("JoblibLauncher", "LocalLauncher")


def run_job(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run one job. An error fails this job only and is written to its result file.

    Returns:
        What ``sweep.objective`` names, for Hydra's sweepers; None if the job failed.
    """
    logging.raiseExceptions = False  # the job reports a full disk once, not each log line
    try:
        OmegaConf.resolve(cfg)
        cfg.sweep.id = cfg.sweep.id or sweep_id()
        plain: Any = OmegaConf.to_container(cfg)
        with results.record_failure(cfg.output_dir, plain):
            announce()
            run_composed(together.job_config(cfg))
    except Exception as problem:
        tell_failure(cfg, problem)
        return read_objectives(cfg, has_failed=True)
    return read_objectives(cfg)


def run_composed(cfg: Config) -> None:
    """Run a job, or find the model that `prune.within` asks for by several."""
    take_share(cfg.trainer)
    pipeline = console.load_pipeline()
    logging.captureWarnings(True)  # into the log file
    console.quiet_lightning()
    if cfg.prune.within is None:
        pipeline.run(cfg)
        return
    from skip_exp.within.run import find  # scikit-learn: not for a single job

    find(cfg, partial(results.run_recorded, pipeline.run))


def read_objectives(cfg: DictConfig, has_failed: bool = False) -> float | tuple[float, ...] | None:
    """The fields of the job's result that ``sweep.objective`` names, as W&B's summary has them.

    None if one is missing: hydra-optuna-sweeper 1.3 ends the search at a NaN.
    """
    result = None if has_failed else results.read_finished(cfg.output_dir)
    fields = results.flatten(result or {})
    values = []
    for name in list_objectives(cfg.sweep.objective):
        value = float(fields.get(name, math.nan))
        if math.isnan(value):
            return None
        values.append(value)
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None


def announce() -> None:
    """Log the number of a sweep's job, the time left, and the job's overrides.

    If jobs run in parallel, their following lines begin with their number.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    # Jobs in other processes count by the results that they have written.
    folder = Path(hydra.sweep.dir)
    number = hydra.job.num + 1
    total = _count_jobs(folder)
    progress = f"{number} of {total}" if total else str(number)
    began = start_of(folder)
    done = len(list_since(began, folder, results.FILE))
    if 0 < done < total:
        # Before those, a search may have made others.
        rest = (time.time() - began) / done * (total - max(done, hydra.job.num))
        progress += f", about {console.duration(rest)} left"
    log.info("job %s: %s", progress, " ".join(hydra.overrides.task))
    if not hydra.launcher._target_.endswith(BASIC):
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):  # each job has its own log file
                handler.setFormatter(logging.Formatter(f"[{number}] %(message)s"))


def _count_jobs(folder: Path) -> int:
    """Number of jobs of the sweep; 0 if unknown."""
    try:
        sweep: Any = OmegaConf.load(folder / SWEEP)
        return int(sweep.hydra.sweeper.get("n_trials") or len(list_jobs(sweep.hydra)))
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
    name = sweep.hydra.job.config_name
    params = OmegaConf.to_container(sweep.hydra.sweeper.get("params") or OmegaConf.create({}))
    command = digest([name, sorted(sweep.hydra.overrides.task), params])[:8]
    return f"{'sweep' if name == 'config' else name}-{command}"


def tell_failure(cfg: DictConfig, problem: Exception) -> None:
    """Print why a job failed, in one line."""
    note_failure()
    hydra = HydraConfig.get()
    error = describe_failure(problem)
    if not (isinstance(problem, SkipError) or is_full_disk(problem)):
        folder = os.path.relpath(cfg.output_dir)
        error = f"{error} (traceback: {folder}/{hydra.job.name}.log)"
    if hydra.mode == RunMode.MULTIRUN:
        job = f"{cfg.task.name}, {cfg.backbone.name}, {name_goal(cfg.prune)}"
        error = f"job {hydra.job.num + 1} ({job}): {error}"
    print(f"error: {error}", file=sys.stderr, flush=True)


def half_the_cores() -> int:
    """Half of the cores this process may use, at least 2: the joblib launcher's workers."""
    from joblib import cpu_count  # knows affinity and container limits; comes with the launcher

    cores: int = cpu_count()
    return max(2, cores // 2)


# At import, because a worker composes its job's configuration before it runs a job.
register_resolver("half_the_cores", half_the_cores, replace=True)
# Hydra merges the plugins' entries of the same name into conf/hydra/launcher, with a warning.
warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/\w+' is validated against")


def take_share(trainer: TrainerConfig) -> None:
    """Take this process's share of the machine; the user's OMP_NUM_THREADS and GPUs are kept."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    if cpus := hydra.launcher.get("cpus_per_task"):  # submitit; Slurm does not always bind cores
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
    if trainer.accelerator != "cpu" and hydra.launcher._target_.endswith(SIDE_BY_SIDE):
        claim_gpu(visible_gpus(), hydra.job.num)


def visible_gpus() -> list[str]:
    """CUDA's names of the GPUs that this process may use, found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index, _ in enumerate(list_gpus())]


def claim_gpu(gpus: Sequence[str], job: int) -> None:
    """Show this process one of several GPUs only, by the job's turn.

    A worker that runs several jobs keeps its GPU: after the first job it sees no other.
    """
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[job % len(gpus)]
