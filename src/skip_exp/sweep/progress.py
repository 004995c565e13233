"""How far a sweep is: logged at the start of each job, in whichever process it runs."""

import itertools
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from skip_exp import results

log = logging.getLogger(__name__)

SWEEP = "multirun.yaml"  # Hydra writes it before the first job of a sweep starts
_BASIC = ("BasicSweeper", "BasicLauncher")  # Hydra's own: all combinations, one after the other


def announce() -> None:
    """Log which job of a sweep begins and how long the rest may take; nothing for a single job.

    Where jobs run in parallel, every following line begins with the job's number.
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
    """Time left, e.g. ``8 min``, after ``done`` jobs in ``elapsed`` seconds; empty if unknown."""
    if not 0 < done < total:
        return ""
    minutes = elapsed / done * (total - done) / 60
    return f"{math.ceil(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def jobs(hydra: Any) -> list[list[str]] | None:
    """The overrides of every job of a sweep; None where another sweeper chooses them as it goes.

    ``hydra``: the sweep's configuration of Hydra.
    """
    if not hydra.sweeper._target_.endswith(_BASIC):
        return None
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    return combinations([*params, *hydra.overrides.task])


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """What Hydra's own sweeper makes of overrides: one list per job. The last of a key wins."""
    initialized = GlobalHydra.instance().is_initialized()
    loader = GlobalHydra.instance().config_loader() if initialized else None
    choices: dict[str, list[str]] = {}
    for override in OverridesParser.create(loader).parse_overrides([*overrides]):
        key = override.get_key_element()
        values = (
            [*override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [override.get_value_element_as_str()]
        )
        choices[key] = [f"{key}={value}" for value in values]
    return [[*job] for job in itertools.product(*choices.values())]


def _total(hydra: Any) -> int | None:
    """Number of jobs of the sweep; None where it is unknown."""
    try:
        sweep: Any = OmegaConf.load(Path(hydra.sweep.dir) / SWEEP)
        every = jobs(sweep.hydra)
    except Exception as problem:  # a missing number fails no job
        log.debug("number of jobs: %s", problem)
        return None
    return None if every is None else len(every)


def _mark(handlers: Sequence[logging.Handler], mark: str) -> None:
    """Let console lines begin with ``mark``; each job has its own log file."""
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            handler.setFormatter(logging.Formatter(f"{mark}%(message)s"))
