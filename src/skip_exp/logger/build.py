"""A job's loggers, and the final results that Lightning does not log by itself."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)

from skip_exp.config.schema import Config
from skip_exp.errors import first_line
from skip_exp.logger.others import log_numbers, open_mlflow

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
        for phase in {name.partition("/")[0] for name in logged}:
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


def build_loggers(cfg: Config, unfinished: Path | None = None) -> list[Logger]:
    """Build the loggers that ``cfg.logger`` selects, and open its W&B run.

    Args:
        unfinished: file for the id of the W&B run, by which a killed job goes on with it.

    Raises:
        SkipError: W&B refuses (no key, a bad key, an unknown entity).
    """
    names = dict.fromkeys([cfg.logger.name, *cfg.logger.also])
    return [_open(name, cfg, unfinished) for name in names if name != "none"]


def _open(name: str, cfg: Config, unfinished: Path | None) -> Logger:
    match name:
        case "csv":
            return CSVLogger(save_dir=cfg.output_dir, name=None, version="csv")
        case "tensorboard":  # `tensorboard --logdir outputs` shows it
            return TensorBoardLogger(
                cfg.output_dir, name=None, version="tensorboard", default_hp_metric=False
            )
        case "mlflow":
            return open_mlflow(cfg)
        case _:
            from skip_exp.logger import runs  # importing wandb takes a third of a second

            run = runs.open_run(cfg, unfinished)
            return PhaseLogger(project=cfg.logger.project, experiment=run)


def mirror(loggers: Sequence[Logger], result: Mapping[str, Any], folder: Path) -> None:
    """Log a finished job to W&B, with its skill and its picture; its numbers to the others.

    Failures only warn: the job is done.

    Args:
        folder: the job's folder, with its skill and its picture.
    """
    for each in loggers:
        if isinstance(each, WandbLogger) and not each.experiment.disabled:
            from skip_exp.logger import runs  # importing wandb takes a third of a second

            runs.log_result(each.experiment, result, folder)
        elif isinstance(each, TensorBoardLogger | MLFlowLogger):
            try:
                log_numbers(each, result)
            except Exception as problem:
                name = type(each).__name__
                log.warning("%s: cannot log the result: %s", name, first_line(problem))
