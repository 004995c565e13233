"""Where a job's curves, summary and pictures go: W&B, a CSV file, or nowhere."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from wandb.sdk.lib import wbauth

from skip_exp import results
from skip_exp.config.schema import Config, method_name
from skip_exp.errors import ConfigError, SkipError

log = logging.getLogger(__name__)

PHASES = ("tune", "retune")  # each fits anew, so Lightning's global step starts again


class PhaseLogger(WandbLogger):
    """Logs ``tune/...`` against ``tune/step`` and ``retune/...`` against ``retune/step``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row: dict[str, float | None] = {
            name: value for name, value in metrics.items() if name != "epoch"
        }
        for phase in {name.partition("/")[0] for name in row if "/" in name}:
            row[f"{phase}/step"] = step
            if "epoch" in metrics:
                row[f"{phase}/epoch"] = metrics["epoch"]
        self.experiment.log({name: value for name, value in row.items() if value is not None})


def build_logger(cfg: Config) -> Logger | None:
    """The logger that ``cfg.logger`` names; W&B's run is open when this returns.

    Raises:
        SkipError: an unknown logger or mode, or W&B refuses (a bad key, an unknown entity).
    """
    match cfg.logger.name:
        case "none":
            return None
        case "csv":
            return CSVLogger(save_dir=cfg.output_dir, name=None, version="csv")
        case "wandb":
            run = _open_run(cfg)  # None on every rank but the first
            return PhaseLogger(project=cfg.logger.project, experiment=run)
        case name:
            raise ConfigError("logger.name", name, "must be one of wandb, csv, none")


@rank_zero_only
def _open_run(cfg: Config) -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        run = _init(cfg, _mode(cfg.logger.mode))
    except wandb.errors.Error as error:
        told = " ".join(str(error).split())
        if cfg.logger.mode != "auto":
            raise SkipError(f"logger.mode={cfg.logger.mode}: W&B refused: {told}") from error
        log.warning("W&B cannot be reached, logging offline: %s", told)
        run = _init(cfg, "offline")
    for phase in PHASES:
        run.define_metric(f"{phase}/step", hidden=True)
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
    if run.offline:
        log.info("W&B: offline; upload with: wandb sync %s", Path(run.dir).parent)
    else:
        log.info("W&B: %s", run.url)
    return run


def _init(cfg: Config, mode: Any, **resumed: Any) -> Any:
    settings = wandb.Settings(
        silent=True, console="off", init_timeout=30, disable_git=True, x_save_requirements=False
    )
    method = method_name(cfg.attribution._target_)
    tags = [cfg.task.name, cfg.backbone.name, cfg.prompt.kind, method, *cfg.logger.tags]
    config = asdict(cfg)
    return wandb.init(
        project=cfg.logger.project,
        entity=cfg.logger.entity,
        group=cfg.logger.group,
        name=f"{cfg.task.name}-{cfg.backbone.name}-{cfg.prune.ratio}-{cfg.seed}",
        tags=[tag for tag in dict.fromkeys(tags) if tag],
        config=config,
        dir=cfg.output_dir,
        mode=mode,
        settings=settings,
        **resumed,
    )


def _mode(asked: str) -> str:
    """W&B's mode; ``auto`` is WANDB_MODE, or else online where there is a key. Never asks for one.

    Raises:
        ConfigError: an unknown mode, or online without a key.
    """
    if asked not in ("auto", "online", "offline"):
        raise ConfigError("logger.mode", asked, "must be one of auto, online, offline")
    if asked == "auto":
        asked = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if asked == "online" and not has_key():
        needs = "needs an API key: set WANDB_API_KEY or run `wandb login`; offline needs none"
        raise ConfigError("logger.mode", asked, needs)
    return asked


def has_key() -> bool:
    """Whether W&B would find a key by itself: environment, netrc file, settings."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = wandb.setup().settings
    return bool(settings.api_key or wbauth.read_netrc_auth(host=settings.base_url))


@rank_zero_only
def log_summary(logger: Logger | None, result: Mapping[str, Any]) -> None:
    """W&B's summary: the fields of ``result.json``, nested ones joined by ``/``."""
    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    run.summary.update(results.flatten(result))
    if result.get("data_is_sample"):
        run.tags = (*run.tags, "sample")  # generated rows are marked wherever they show


@rank_zero_only
def log_keep_picture(
    logger: Logger | None, keep_sizes: Mapping[str, Sequence[int]], path: Path | str
) -> None:
    """Draw what each layer kept ({site: [kept, of]}) as a PNG at ``path``; show it in W&B."""
    try:
        _draw(keep_sizes).savefig(path, dpi=120, bbox_inches="tight")
    except OSError:
        Path(path).unlink(missing_ok=True)  # half a picture is none
        raise
    if isinstance(logger, WandbLogger):
        logger.experiment.log({"keep": wandb.Image(str(path))})


def _draw(keep_sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Heat map: a row per kind of site, a column per layer, the fraction kept in each cell."""
    cells = {}
    for site, (kept, of) in keep_sizes.items():
        stack, layer, kind = site.split(".", 2)
        cells[f"{stack} {kind.replace('.', ' ')}", int(layer)] = (kept, of)
    kinds = sorted({kind for kind, _ in cells})
    layers = range(1 + max(layer for _, layer in cells))
    figure = Figure(figsize=(1.6 + 0.62 * len(layers), 0.9 + 0.5 * len(kinds)))
    axes = figure.subplots()
    shares = [[_share(cells.get((kind, layer))) for layer in layers] for kind in kinds]
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (kind, column), (kept, of) in cells.items():
        color = "white" if 2 * kept > of else "black"
        place = (column, kinds.index(kind))
        axes.text(*place, str(kept), color=color, ha="center", va="center", fontsize=7)
    axes.set_xticks(list(layers))
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("layer")
    axes.set_title("units kept", fontsize=9)
    figure.colorbar(image, label="fraction kept")
    return figure


def _share(cell: Sequence[int] | None) -> float:
    return float("nan") if cell is None else cell[0] / max(cell[1], 1)


def close(error: str | None = None) -> None:
    """End the W&B run of this job, if one is open; with an error it is marked failed."""
    run = wandb.run
    if run is None:
        return
    try:
        if error:
            run.summary.update({"status": "failed", "error": error})
        run.finish(exit_code=1 if error else 0)
    except Exception as problem:  # a finished job stays finished when its upload fails
        log.warning("W&B: the run did not end cleanly: %s", problem)


@rank_zero_only
def supersede(cfg: Config, folder: Path, error: str) -> None:
    """Tag the W&B run of a killed job ``superseded`` and end it as failed.

    Args:
        cfg: configuration of the killed job.
        folder: its output folder; W&B keeps runs in ``wandb/[offline-]run-<time>-<id>`` below.
        error: what the run's summary is to say.

    Trouble with W&B costs a warning. No run, nothing to do.
    """
    runs = folder.glob("wandb/*run-*-*")
    # The latest is the one that was killed: an earlier one was ended, or tagged, before it began.
    latest = max(runs, key=lambda path: path.name.partition("run-")[2], default=None)
    if latest is None:
        return
    prefix, _, rest = latest.name.partition("run-")
    run_id, online = rest.partition("-")[2], not prefix
    there = replace(cfg, output_dir=str(folder))
    try:
        if online:
            run = _init(there, _mode("online"), id=run_id, resume="allow")
        else:  # a second folder of the same id, to be synced after the first
            run = _init(there, "offline", id=run_id)
        run.tags = (*run.tags, "superseded")
    except Exception as problem:
        why = " ".join(str(problem).split())
        log.warning("W&B: run %s is not tagged as superseded: %s", run_id, why)
    close(error)
