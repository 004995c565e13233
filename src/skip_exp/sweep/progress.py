"""Progress of a sweep, logged at the start of each job by the process that runs it."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.utils.bars import duration

log = logging.getLogger(__name__)

SWEEP = "multirun.yaml"  # Hydra writes it before the first job of a sweep starts
BASIC = ("BasicSweeper", "BasicLauncher")  # Hydra's own: all combinations, one after the other


def announce() -> None:
    """Log the number of a sweep's job and the time left.

    If jobs run in parallel, their following lines begin with their number.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    number, total, folder = hydra.job.num + 1, _total(hydra), Path(hydra.sweep.dir)
    place = f"{number} of {total}" if total else str(number)
    began, now = start_of(folder), time.time()
    done = sum(file.stat().st_mtime >= began for file in folder.rglob(results.FILE))
    rest = left(now - began, done, total) if total else ""
    log.info("job %s%s", place, f", about {rest} left" if rest else "")
    if not hydra.launcher._target_.endswith(BASIC):
        _mark(logging.getLogger().handlers, f"[{number}] ")


def start_of(sweep_folder: Path) -> float:
    """Start of the latest sweep into this folder, by the clock of its file system; 0 if unknown."""
    file = sweep_folder / SWEEP
    return file.stat().st_mtime if file.is_file() else 0.0


def left(elapsed: float, done: int, total: int) -> str:
    """Time left, e.g. ``8 min``, after ``done`` jobs in ``elapsed`` seconds; empty if unknown."""
    if not 0 < done < total:
        return ""
    return duration(elapsed / done * (total - done))


def jobs(hydra: Any) -> list[list[str]] | None:
    """The overrides of every job of a sweep; None if another sweeper chooses them on the way.

    Args:
        hydra: the node ``hydra`` of the sweep's configuration.
    """
    if not hydra.sweeper._target_.endswith(BASIC):
        return None
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    return combinations([*params, *hydra.overrides.task])


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper combines them.

    The last override of a key wins: a value of the command line replaces that of a sweep file.
    """
    hydra = GlobalHydra.instance()
    parser = OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None)
    return BasicSweeper.split_arguments(parser.parse_overrides([*overrides]), None)[0]


def _total(hydra: Any) -> int | None:
    """Number of jobs of the sweep; None if unknown."""
    try:
        sweep: Any = OmegaConf.load(Path(hydra.sweep.dir) / SWEEP)
        return len(jobs(sweep.hydra) or []) or None
    except Exception as problem:  # a missing number fails no job
        log.debug("number of jobs: %s", problem)
        return None


def _mark(handlers: Sequence[logging.Handler], mark: str) -> None:
    """Start console lines with ``mark``; each job has its own log file."""
    for handler in handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setFormatter(logging.Formatter(f"{mark}%(message)s"))
