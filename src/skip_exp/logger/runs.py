"""W&B runs: opening one, ending it, marking that of a killed job as superseded."""

import logging
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.utilities import rank_zero_only

from skip_exp.config.schema import BASELINES, Config
from skip_exp.errors import ConfigError, SkipError
from skip_exp.logger import key

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"  # the error of a job that Ctrl-C or SIGTERM ended
PHASES = ("tune", "retune")  # each fits anew, so Lightning's global step starts again
WAIT = 15.0  # seconds that W&B's server gets to answer, at the beginning of a run and at its end

_is_gone = False  # the server did not answer to this process: its further jobs do not wait for it


@rank_zero_only
def open_run(cfg: Config) -> wandb.Run:
    """Open the W&B run of a job, on the first rank; elsewhere None.

    With mode ``auto`` it is offline where W&B cannot be reached, or went away in an earlier job.

    Raises:
        ConfigError: online without a key.
        SkipError: W&B refuses (a bad key, an unknown entity).
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    global _is_gone
    mode = _mode(cfg.logger.mode)
    if _is_gone and cfg.logger.mode == "auto" and mode == "online":
        mode = "offline"
    try:
        run = _init(cfg, mode)
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        if cfg.logger.mode != "auto":
            raise SkipError(f"logger.mode={cfg.logger.mode}: W&B refused: {reason}") from error
        log.warning("W&B cannot be reached, logging offline: %s", reason)
        _is_gone = True
        run = _init(cfg, "offline")
    for phase in PHASES:
        run.define_metric(f"{phase}/step", hidden=True)
        # The summary is of the epoch that is kept: `build.PhaseLogger` writes it.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step", summary="none")
    if run.offline:
        runs = f"{os.path.dirname(_folder(run))}/offline-run-*"  # short: it should not wrap
        log.info("W&B: offline; upload with:\n  wandb sync %s", runs)
    elif not run.disabled:
        log.info("W&B: %s", run.url)
    return run


def _init(cfg: Config, mode: Any, **resumed: Any) -> wandb.Run:
    """Begin a run that is described by the job's configuration."""
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=WAIT,
        finish_timeout=WAIT,
        finish_timeout_raises=True,
        x_save_requirements=False,
    )
    tags = [
        cfg.task.name,
        cfg.backbone.label,
        cfg.prompt.kind,
        cfg.attribution.name,
        *cfg.logger.tags,
    ]
    return wandb.init(
        project=cfg.logger.project,
        entity=cfg.logger.entity,
        group=cfg.logger.group,
        job_type=job_type(cfg),
        name=f"{cfg.task.name}-{cfg.backbone.label}-{cfg.prune.ratio}-{cfg.seed}",
        tags=[tag for tag in dict.fromkeys(tags) if tag],
        config=asdict(cfg),
        dir=cfg.output_dir,
        mode=mode,
        settings=settings,
        **resumed,
    )


def job_type(cfg: Config) -> str:
    """``prune``, ``dense_continued`` (nothing is cut) or ``baseline`` (no prompt, or no skill)."""
    if cfg.prompt.kind == "none" or cfg.tune.train in BASELINES:
        return "baseline"
    return "dense_continued" if cfg.prune.goal.ratio == 0 else "prune"


def _mode(mode: str) -> str:
    """W&B's mode; ``auto`` is WANDB_MODE, or else online where there is a key. Never asks for one.

    Raises:
        ConfigError: online without a key.
    """
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if key.has_key() else "offline")
    if mode == "online" and not key.has_key():
        needs = "needs an API key: set WANDB_API_KEY or run `wandb login`; offline needs none"
        raise ConfigError("logger.mode", mode, needs)
    return mode


def close(error: str | None = None) -> None:
    """End the W&B run of this job, if one is open; an error marks it failed and is an alert.

    Who pressed Ctrl-C needs no alert. Where W&B went away meanwhile, what was logged stays in the
    run's folder, and a line says so.
    """
    run = wandb.run
    if run is None:
        return
    if error and error != INTERRUPTED:
        with suppress(Exception):  # `_end` tells of W&B's troubles
            run.alert(f"{run.name} failed"[:63], error, level="ERROR")
    _end(run, error)


def _end(run: wandb.Run, error: str | None) -> None:
    global _is_gone
    folder = _folder(run)
    try:
        if error:
            run.summary.update({"status": "failed", "error": error})
        run.finish(exit_code=1 if error else 0)
    except TimeoutError:
        command = f"wandb sync --include-online {folder}"
        log.warning("W&B does not answer any more; upload this run later: %s", command)
        _is_gone = True
    except Exception as problem:  # a finished job stays finished when its upload fails
        log.warning("W&B: the run did not end cleanly: %s", problem)
        if isinstance(problem, ConnectionError):  # W&B's own process was killed
            with suppress(Exception, SystemExit):
                wandb.teardown()  # so that the next job starts another
            wandb.run = None


def _folder(run: wandb.Run) -> str:
    """Where W&B keeps the run's files, as one would type it."""
    return os.path.relpath(Path(run.dir).parent)


@rank_zero_only
def supersede(cfg: Config, folder: Path, error: str) -> None:
    """Tag the W&B run of a killed job ``superseded`` and end it as failed.

    Args:
        cfg: configuration of the killed job.
        folder: its output folder; W&B keeps runs in ``wandb/[offline-]run-<time>-<id>`` below.
        error: what the run's summary is to say.

    Trouble with W&B costs a warning. No run, nothing to do.
    """
    folders = folder.glob("wandb/*run-*-*")
    # The latest is the one that was killed: an earlier one was ended, or tagged, before it began.
    latest = max(folders, key=lambda path: path.name.partition("run-")[2], default=None)
    if latest is None:
        return
    prefix, _, rest = latest.name.partition("run-")
    run_id, online = rest.partition("-")[2], not prefix
    killed = replace(cfg, output_dir=str(folder))
    try:
        if online:
            run = _init(killed, _mode("online"), id=run_id, resume="allow")
        else:  # a second folder of the same id, to be synced after the first
            run = _init(killed, "offline", id=run_id)
        run.tags = (*(run.tags or ()), "superseded")
    except Exception as problem:
        why = " ".join(str(problem).split())
        log.warning("W&B: run %s is not tagged as superseded: %s", run_id, why)
    if wandb.run is not None:
        _end(wandb.run, error)
