"""How far a sweep is: told at the start of each of its jobs, in whichever process it runs."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp import results

log = logging.getLogger(__name__)

SWEEP = "multirun.yaml"  # Hydra writes it before the first job of a sweep starts
_BASIC = ("BasicSweeper", "BasicLauncher")  # Hydra's own: all combinations, one after the other


def announce() -> None:
    """Say which job of the sweep begins and how long the rest may take; nothing for a single job.

    Where jobs run side by side, every line that follows begins with the job's number.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return
    number, total, folder = hydra.job.num + 1, _total(hydra), Path(hydra.sweep.dir)
    place = f"{number} of {total}" if total else str(number)
    began, now = start_of(folder), time.time()
    done = sum(file.stat().st_mtime >= began for file in folder.glob(f"*/{results.FILE}"))
    rest = left(now - began, done, total) if total else ""
    log.info("job %s%s", place, f", about {rest} left" if rest else "")
    if not hydra.launcher._target_.endswith(_BASIC):
        _mark(logging.getLogger().handlers, f"[{number}] ")


def start_of(sweep_folder: Path) -> float:
    """When the latest sweep into this folder began, by the clock of its file system; 0: unknown."""
    file = sweep_folder / SWEEP
    return file.stat().st_mtime if file.is_file() else 0.0


def left(elapsed: float, done: int, total: int) -> str:
    """``8 min``: for the rest, after ``done`` jobs in ``elapsed`` seconds; empty where unknown."""
    if not 0 < done < total:
        return ""
    minutes = elapsed / done * (total - done) / 60
    return f"{math.ceil(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def combinations(overrides: Sequence[str]) -> int:
    """How many jobs Hydra's own sweeper makes of a command's overrides; the last of a key counts.

    Raises:
        Exception: overrides that Hydra itself has to resolve, such as ``seed=glob(*)``.
    """
    counts = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        is_swept = override.is_sweep_override()
        choices = len(list(override.sweep_string_iterator())) if is_swept else 1
        counts[override.get_key_element()] = choices
    return math.prod(counts.values())


def _total(hydra: Any) -> int | None:
    """Number of jobs of the sweep; None where another sweeper decides as it goes."""
    if not hydra.sweeper._target_.endswith(_BASIC):
        return None
    try:
        sweep: Any = OmegaConf.load(Path(hydra.sweep.dir) / SWEEP)
        params = sweep.hydra.sweeper.get("params") or {}
        given = [f"{key}={value}" for key, value in params.items()]
        return combinations([*given, *sweep.hydra.overrides.task])
    except Exception as problem:  # it is only told: no job fails for it
        log.debug("number of jobs: %s", problem)
        return None


def _mark(handlers: Sequence[logging.Handler], mark: str) -> None:
    """Let console lines begin with ``mark``; a job's log file is its own anyway."""
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            handler.setFormatter(logging.Formatter(f"{mark}%(message)s"))
