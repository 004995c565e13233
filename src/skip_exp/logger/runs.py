"""Opens and closes a job's W&B run, and logs what a finished job leaves."""

import logging
import os
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wandb

from skip_exp import results
from skip_exp.config.checks import FITS
from skip_exp.config.schema import WANDB_PROJECT, Config
from skip_exp.errors import first_line, one_line
from skip_exp.utils import files

log = logging.getLogger(__name__)

LONGEST_TAG = 64  # characters that W&B takes
WAIT = 15.0  # seconds to wait for W&B's server when a run starts and ends


def open_run(cfg: Config, unfinished: Path | None = None) -> wandb.Run:
    """Open a job's W&B run.

    It is offline if W&B refuses it (a bad key, an unknown entity) or cannot be reached.

    Args:
        unfinished: file for the run's id, by which a job that was killed goes on with its run.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    reason = ""
    try:
        run = _init(cfg, find_mode(), find_id(unfinished))
    except wandb.errors.Error as error:
        reason = f"cannot be reached ({one_line(error)}), "
        run = _init(cfg, "offline", None)  # W&B's service still holds the id
    for phase in FITS:  # each fits anew, so Lightning's global step starts again
        run.define_metric(f"{phase}/step", hidden=True)
        # `build.PhaseLogger` writes the summary, for the epoch that the phase kept.
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step", summary="none")
    if run.offline:
        folder = shlex.quote(os.path.dirname(_folder(run)))
        log.info("W&B: %soffline; upload with: wandb sync %s/offline-run-*", reason, folder)
    elif not run.disabled:
        log.info("W&B: %s", run.url)
    return run


def find_mode() -> str:
    """W&B's mode, which is the user's own, or offline without a key, for which W&B would ask."""
    mode = wandb.setup().settings.mode  # of WANDB_MODE, `wandb offline` or `wandb disabled`
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        return "offline"
    return mode


def find_id(unfinished: Path | None) -> str | None:
    """The id of a job's W&B run, the same until the job is done; None leaves it to W&B."""
    if unfinished is None or os.environ.get("WANDB_RUN_ID"):  # an agent of a W&B sweep sets it
        return None
    if not unfinished.exists():
        files.save(unfinished, secrets.token_hex(4).encode())
    return unfinished.read_text()


def _init(cfg: Config, mode: Any, run_id: str | None) -> wandb.Run:
    """Start a run that is named and tagged after the job's configuration."""
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=WAIT,
        finish_timeout=WAIT,
        finish_timeout_raises=True,
        x_save_requirements=False,
    )
    tags = [cfg.task.name, cfg.backbone.name, cfg.prompt.kind, cfg.attribution.name]
    tags += cfg.logger.tags
    return wandb.init(
        project=find_project(cfg.logger.project),
        entity=cfg.logger.entity,
        group=cfg.logger.group or cfg.sweep.id,
        name=cfg.label,
        notes=cfg.logger.notes,
        tags=[tag[:LONGEST_TAG] for tag in dict.fromkeys(tags) if tag],
        config=asdict(cfg),
        id=run_id,
        resume="allow" if run_id else None,
        dir=cfg.output_dir,
        mode=mode,
        reinit="create_new" if wandb.run else None,  # a run of the caller's own goes on
        settings=settings,
    )


def find_project(project: str | None) -> str:
    """The project of ``logger.project``, else that of WANDB_PROJECT."""
    return project or os.environ.get("WANDB_PROJECT") or WANDB_PROJECT


def log_result(run: wandb.Run, result: Mapping[str, Any], folder: Path) -> None:
    """Log a finished job's skill, fields and picture; where one cannot be logged, warn."""
    for name, step in (("skill", log_skill), ("fields", log_fields)):
        try:
            step(run, result, folder)
        except Exception as problem:  # the job is done
            log.warning("W&B: cannot log the %s: %s", name, first_line(problem))


def log_skill(run: wandb.Run, result: Mapping[str, Any], folder: Path) -> None:
    """Log the skill as an artifact, unless it is a whole model, which would fill the store."""
    if "full" in [result["config"][phase]["train"] for phase in FITS]:
        return
    mark = "-stand-in" if result["data_is_sample"] else ""
    name = re.sub(r"[^a-zA-Z0-9_.-]", "_", f"skill-{result['task']}-{result['backbone']}{mark}")
    artifact = wandb.Artifact(name[:128], "model")
    artifact.add_dir(str(folder / result["skill"]))
    run.log_artifact(artifact)


def log_fields(run: wandb.Run, result: Mapping[str, Any], folder: Path) -> None:
    """Show the fields of the result in the run's summary, and its picture."""
    # A run that goes on may have the error of a job that failed.
    run.summary.update({"error": None} | results.flatten(result))
    if result["data_is_sample"]:
        run.tags = (*(run.tags or ()), "stand-in")
    run.log({"keep": wandb.Image(str(folder / results.PICTURE))})


def close(run: wandb.Run, error: str | None = None) -> None:
    """Close a W&B run; an error marks it failed.

    If W&B is unreachable, the data stay in the run's folder and a
    warning shows how to upload them.
    """
    folder = _folder(run)
    try:
        if error:
            run.summary.update({"status": "failed", "error": error})
        run.finish(exit_code=1 if error else 0)
    except Exception as problem:  # a failed upload must not fail the job
        command = f"wandb sync --include-online {shlex.quote(folder)}"
        log.warning(
            "W&B: the run was not closed: %s; upload it later: %s", first_line(problem), command
        )


def _folder(run: wandb.Run) -> str:
    """The run's folder, relative to the working directory."""
    return os.path.relpath(Path(run.dir).parent)
