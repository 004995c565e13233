"""Opens and closes W&B runs."""

import logging
import os
import shlex
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.utilities import rank_zero_only

from skip_exp.config.checks import one_of, project
from skip_exp.config.names import FITS
from skip_exp.config.prune import name_goal
from skip_exp.config.schema import Config
from skip_exp.config.train import BASELINES
from skip_exp.errors import INTERRUPTED, ConfigError, SkipError
from skip_exp.logger import key

log = logging.getLogger(__name__)

LONGEST_TAG = 64  # characters that W&B takes
WAIT = 15.0  # seconds to wait for W&B's server when a run starts and ends

PROJECT = "skip_exp"
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # of WANDB_MODE

_is_gone = False  # the server stopped answering; later jobs of this process do not wait for it
_run: wandb.Run | None = None  # of this process's job; `wandb.run` may be the caller's own


@rank_zero_only
def open_run(cfg: Config) -> wandb.Run:
    """Open a job's W&B run.

    With mode ``auto`` the run is offline if W&B cannot be reached, now or in an earlier job.

    Raises:
        ConfigError: online without a key; no mode or project of W&B's in the environment.
        SkipError: W&B refuses (a bad key, an unknown entity).
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    global _is_gone, _run
    mode, name = mode_of(cfg.logger.mode), project_of(cfg.logger.project)
    try:
        run = _run = _init(cfg, name, mode)
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        if cfg.logger.mode != "auto":
            raise SkipError(f"logger.mode={cfg.logger.mode}: W&B refused: {reason}") from error
        log.warning("W&B: cannot be reached, logging offline: %s", reason)
        _is_gone = True
        run = _run = _init(cfg, name, "offline")
    for phase in FITS:  # each fits anew, so Lightning's global step starts again
        run.define_metric(f"{phase}/step", hidden=True)
        # `build.PhaseLogger` writes the summary, for the epoch that the phase kept.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step", summary="none")
    if run.offline:
        runs = shlex.quote(os.path.dirname(_folder(run)))  # short, so it does not wrap
        log.info("W&B: offline; upload with:\n  wandb sync %s/offline-run-*", runs)
    elif not run.disabled:
        log.info("W&B: %s", run.url)
    return run


def _init(cfg: Config, name: str, mode: Any) -> wandb.Run:
    """Start a run of the project ``name``, named and tagged after the job's configuration."""
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=WAIT,
        finish_timeout=WAIT,
        finish_timeout_raises=True,
        x_save_requirements=False,
    )
    tags = [cfg.task.name, cfg.backbone.label, cfg.prompt.kind, cfg.attribution.name]
    return wandb.init(
        project=name,
        entity=cfg.logger.entity,
        group=cfg.logger.group or cfg.sweep.id,
        job_type=job_type(cfg),
        name=f"{cfg.task.name}-{cfg.backbone.label}-{name_goal(asdict(cfg.prune))}-{cfg.seed}",
        tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys([*tags, *cfg.logger.tags]) if tag],
        config=asdict(cfg),
        dir=cfg.output_dir,
        mode=mode,
        reinit="create_new" if wandb.run else None,  # a run of the caller's own goes on
        settings=settings,
    )


def job_type(cfg: Config) -> str:
    """``prune``, ``dense_continued`` (ratio 0) or ``baseline`` (no prompt or a full model)."""
    if cfg.prune.goal.ratio != 0:
        return "prune"
    is_baseline = cfg.prompt.kind == "none" or cfg.tune.train in BASELINES
    return "baseline" if is_baseline else "dense_continued"


def mode_of(mode: str) -> str:
    """W&B's mode; ``auto`` is WANDB_MODE, else that of W&B's settings; online only with a key.

    Raises:
        ConfigError: online without a key, or WANDB_MODE is no mode of W&B's.
    """
    is_auto = mode == "auto"
    given = os.environ.get("WANDB_MODE") if is_auto else None
    if given:
        one_of("WANDB_MODE", given, MODES)
    if is_auto:
        mode = given or _settled()
    if mode != "online":
        return mode
    if is_auto and _is_gone:
        return "offline"
    if key.has_key():
        return mode
    if is_auto and not given:
        return "offline"
    needs = "needs an API key: set WANDB_API_KEY, run `wandb login` or use offline"
    raise ConfigError("WANDB_MODE" if given else "logger.mode", mode, needs)


def _settled() -> str:
    """What `wandb offline` or `wandb disabled` wrote, here or for this user; else ``online``."""
    settings = wandb.Settings(silent=True)
    settings.update_from_system_settings()
    return settings.mode


def project_of(given: str | None) -> str:
    """The project that was given, else that of WANDB_PROJECT; may raise ConfigError."""
    if given:
        return given
    name = os.environ.get("WANDB_PROJECT") or PROJECT
    project("WANDB_PROJECT", name)
    return name


def close(error: str | None = None) -> None:
    """Close the W&B run of this process's job, if any; an error marks it failed and sends an alert.

    Interrupted jobs send no alert. If W&B is unreachable, the data stay in the run's folder and a
    warning shows how to upload them.
    """
    global _run
    if (run := _run) is None:
        return
    _run = None
    if error and error != INTERRUPTED:
        with suppress(Exception):  # `_end` reports W&B's failures
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
        command = f"wandb sync --include-online {shlex.quote(folder)}"
        log.warning("W&B: no answer from the server; upload this run later: %s", command)
        _is_gone = True
    except Exception as problem:  # a failed upload must not fail the job
        log.warning("W&B: cannot close the run: %s", problem)


def _folder(run: wandb.Run) -> str:
    """The run's folder, relative to the working directory."""
    return os.path.relpath(Path(run.dir).parent)
