"""A job's loggers, and its picture: what each layer kept."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from matplotlib.figure import Figure

from skip_exp.config.compose import describe_failure
from skip_exp.config.schema import Config
from skip_exp.errors import INTERRUPTED, first_line
from skip_exp.models.family import Site
from skip_exp.utils import files

log = logging.getLogger(__name__)

KEPT_EPOCH = "/kept_epoch"  # marks the row of the epoch that a phase kept


class PhaseLogger(WandbLogger):
    """Logs ``tune/...`` against ``tune/step`` and ``retune/...`` against ``retune/step``.

    The summary shows the epoch that a phase kept, not its last one. If W&B's own
    process dies, the job continues after one warning.
    """

    is_lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        logged: dict[str, Any] = {k: value for k, value in metrics.items() if k != "epoch"}
        for name in list(logged):
            phase = name.partition("/")[0]
            logged |= {f"{phase}/step": step, f"{phase}/epoch": metrics["epoch"]}
        try:
            if any(name.endswith(KEPT_EPOCH) for name in logged):
                self.experiment.summary.update(logged)
            else:
                self.experiment.log(logged)
        except Exception as problem:
            if not self.is_lost:
                log.warning("W&B: cannot log curves: %s", first_line(problem))
            self.is_lost = True


@contextmanager
def open_loggers(cfg: Config, unfinished: Path | None = None) -> Iterator[list[Logger]]:
    """The logger that ``cfg.logger`` selects, if any; its W&B run is open within the block.

    An error in the block marks the run as failed.

    Args:
        unfinished: file for the id of the W&B run, by which a killed job goes on with it.
    """
    if cfg.logger.name in ("none", "csv"):
        table = CSVLogger(save_dir=cfg.output_dir, name=None, version="csv")
        yield [table] if cfg.logger.name == "csv" else []
        return
    from skip_exp.logger import runs  # importing wandb takes a third of a second

    run = runs.open_run(cfg, unfinished)
    error = None
    try:
        yield [PhaseLogger(project=cfg.logger.project, experiment=run)]
    except (KeyboardInterrupt, SystemExit):  # as Lightning ends a worker
        error = INTERRUPTED
        raise
    except Exception as problem:
        error = describe_failure(problem)
        raise
    finally:
        runs.close(run, error)


def mirror(loggers: Sequence[Logger], result: Mapping[str, Any], folder: Path) -> None:
    """Log a finished job to W&B. Failures only warn: the job is done.

    Args:
        folder: the job's folder, with its skill and its picture.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and not logger.experiment.disabled:
            from skip_exp.logger import runs  # importing wandb takes a third of a second

            runs.log_result(logger.experiment, result, folder)


def save_picture(keep_sizes: Mapping[str, Sequence[int]], path: Path) -> None:
    """Draw ``keep_sizes`` ({site: [kept, total]}) as a PNG. Raises SkipError."""
    content = BytesIO()
    draw_kept(keep_sizes).savefig(content, format="png", dpi=120, bbox_inches="tight")
    files.save(path, content.getvalue())


def draw_kept(keep_sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Heat map of the fraction kept: a row per kind of site, a column per layer."""
    sites = {Site(name): sizes for name, sizes in keep_sizes.items()}
    rows = sorted({site.like for site in sites})
    layers = range(1 + max(site.sublayer.layer for site in sites))
    # A layer without such a site stays NaN, which is drawn as an empty cell.
    shares = np.full((len(rows), len(layers)), np.nan)
    figure = Figure(figsize=(1.6 + 0.62 * len(layers), 0.9 + 0.5 * len(rows)))
    axes = figure.subplots()
    for site, (size, total) in sites.items():
        row = rows.index(site.like)
        column = site.sublayer.layer
        shares[row, column] = size / max(total, 1)
        color = "white" if 2 * size > total else "black"  # readable on the color of its cell
        axes.text(column, row, str(size), color=color, ha="center", va="center", fontsize=7)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(layers, [str(layer + 1) for layer in layers])
    axes.set_yticks(range(len(rows)), [row.replace(".", " ") for row in rows])
    axes.set_xlabel("layer")
    axes.set_title("units kept", fontsize=9)
    figure.colorbar(image, label="fraction kept")
    return figure
