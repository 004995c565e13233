"""One job of a sweep, and what is told when all of them have ended.

Jobs may run in other processes (joblib, submitit), so the end is told from the result files.
"""

import hashlib
import json
import logging
import os
import re
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from skip_exp import results
from skip_exp.config import refusals
from skip_exp.errors import SkipError
from skip_exp.report import summary
from skip_exp.sweep import workers

log = logging.getLogger(__name__)

TRACEBACKS = "SKIP_EXP_TRACEBACKS"  # set where the user asked for them with HYDRA_FULL_ERROR=1


class Started(Callback):
    """What this process started: where the results go, and whether a job failed here."""

    folder: ClassVar[Path | None] = None
    multirun: ClassVar[bool] = False
    failed: ClassVar[bool] = False

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _refuse_overrides(config.hydra.overrides)
        if OmegaConf.is_missing(config.task, "name"):
            _refuse(refusals.missing_task(_loader().get_group_options("task")))
        if line := refusals.missing_key(config):
            _refuse(line)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        params = OmegaConf.select(config, "hydra.sweeper.params") or {}
        given = [*_refuse_overrides(config.hydra.overrides), *params]
        named = any(re.match(r"\+*task(\.name)?(=|$)", override) for override in given)
        if not named and OmegaConf.is_missing(config.task, "name"):
            _refuse(refusals.missing_task(_loader().get_group_options("task")))
        if line := refusals.missing_extra(config.hydra, Plugins.instance().class_name_to_class):
            _refuse(line)
        Started.folder, Started.multirun = Path(config.hydra.sweep.dir), True

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if not Started.multirun:
            Started.folder = Path(config.hydra.runtime.output_dir)


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()


def _refuse_overrides(overrides: DictConfig) -> list[str]:
    given: Any = OmegaConf.to_container(overrides.task, resolve=False)
    if line := refusals.refused(given, _loader().list_groups("")):
        _refuse(line)
    return given


def _refuse(line: str) -> None:
    """End the program; an exception would not do: Hydra turns those of callbacks into warnings."""
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def job(cfg: DictConfig) -> None:
    """Run one job. Whatever goes wrong fails this job only, and says so in its result file."""
    error = None
    logging.raiseExceptions = False  # a log file on a full disk: the job tells of it, once
    try:
        _check(cfg)
        workers.settle(cfg.trainer)
        from skip_exp import pipeline  # not before: torch takes seconds to import

        _quiet()
        pipeline.run(cfg)
    except KeyboardInterrupt:
        error = "interrupted"
        raise
    except SystemExit as stop:
        error = "interrupted"
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning turns one into the other
            raise KeyboardInterrupt from stop
        raise
    except Exception as problem:
        error = _told(problem)
        _fail(cfg, problem, error)
    finally:
        if logs := sys.modules.get("skip_exp.logger.loggers"):
            logs.close(error)


def _quiet() -> None:
    """Lightning announces hardware and tips at every fit; warnings belong in the log file."""
    logging.captureWarnings(True)
    logging.getLogger("lightning").handlers.clear()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _check(cfg: DictConfig) -> None:
    """Raise SkipError on what the schema cannot see; fill in what depends on the sweep."""
    OmegaConf.resolve(cfg)
    if line := refusals.missing_key(cfg):
        raise SkipError(line)
    if cfg.logger.group is None:
        cfg.logger.group = sweep_id()


def sweep_id() -> str | None:
    """Name of the sweep this job belongs to, the same whenever the same command is given."""
    hydra = HydraConfig.get()
    file = Path(hydra.sweep.dir) / "multirun.yaml"
    if hydra.mode != RunMode.MULTIRUN or not file.is_file():
        return None
    sweep: Any = OmegaConf.load(file)
    params = OmegaConf.to_container(sweep.hydra.sweeper.get("params") or OmegaConf.create({}))
    asked = [sweep.hydra.job.config_name, sorted(sweep.hydra.overrides.task), params]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    name = "sweep" if asked[0] == "config" else asked[0]
    return f"{name}-{digest}"


def _told(problem: Exception) -> str:
    if isinstance(problem, SkipError):
        return refusals.explain(problem)
    first = (str(problem).strip().splitlines() or [""])[0]
    return f"{type(problem).__name__}: {first}"


def _fail(cfg: DictConfig, problem: Exception, error: str) -> None:
    Started.failed = True
    log.debug(error, exc_info=problem)  # DEBUG goes to the job's log file only
    if cfg.debug or os.environ.get(TRACEBACKS):
        traceback.print_exception(problem)
    plain: Any = OmegaConf.to_container(cfg)
    try:
        results.write_failed(cfg.output_dir, plain, error)
    except SkipError as unwritable:
        if not isinstance(problem.__cause__, OSError):  # the same trouble, told already
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
    return f"job {hydra.job.num} ({cfg.task.name}, {cfg.backbone.name}, {cfg.prune.ratio}): "


def finish() -> bool:
    """Show what the jobs of this command left behind; whether all of them are done."""
    folder = Started.folder
    if folder is None or not folder.is_dir():
        return not Started.failed
    found = sorted(results.load(folder), key=_number)
    done = [result for result in found if result["status"] == "done"]
    lost = _without_result(folder)
    if found and (Started.multirun or not Started.failed):
        console = Console()
        # Squeezed into a narrow window the columns would lose their content: better to wrap.
        console.width = max(console.width, 110) if console.is_terminal else 160
        console.print(summary.table(found))
    for name in lost:
        print(f"error: {name}: ended without a result", file=sys.stderr)
    if Started.multirun and not (found or lost):  # workers elsewhere, or the launcher failed
        print(f"error: {os.path.relpath(folder)}: no job left a result there", file=sys.stderr)
    if Started.multirun or (done and not Started.failed):
        print(f"results: {os.path.relpath(folder)}")
        print(f"next:    {_next(folder)}")
    return 0 < len(done) == len(found) and not lost and not Started.failed


def _number(result: dict[str, Any]) -> tuple[int, str]:
    """Job order: ``10-...`` comes after ``2-...``."""
    name = Path(result["path"]).parent.name
    number = re.match(r"\d+", name)
    return int(number.group()) if number and Started.multirun else 0, name


def _without_result(folder: Path) -> list[str]:
    """Jobs that were started and left nothing: their process was killed."""
    pattern = "*/.hydra" if Started.multirun else ".hydra"
    jobs = [path.parent for path in folder.glob(pattern)]
    return sorted(job.name for job in jobs if not (job / results.FILE).is_file())


def _next(folder: Path) -> str:
    if Started.multirun:
        return f"python -m skip_exp.report {os.path.relpath(folder)}"
    others = ("prune.ratio=", "prune.max_drop=", "hydra.")
    given = [arg for arg in sys.argv[1:] if not arg.startswith(others)]
    return f"python -m skip_exp {shlex.join(given)} prune.ratio=0.3,0.5,0.7 -m"
