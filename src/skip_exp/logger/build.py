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
from lightning.pytorch.utilities import rank_zero_only

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

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        logged = {name: value for name, value in metrics.items() if name != "epoch"}
        for phase in {name.partition("/")[0] for name in logged if "/" in name}:
            if step is not None:
                logged[f"{phase}/step"] = step
            if "epoch" in metrics:
                logged[f"{phase}/epoch"] = metrics["epoch"]
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
        ConfigError: online without a key; no mode or project of W&B's in the environment.
        SkipError: W&B refuses (a bad key, an unknown entity).
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


@rank_zero_only
def mirror(
    loggers: Sequence[Logger],
    result: Mapping[str, Any],
    folder: Path,
    fingerprint: str,
    content_hash: str,
    texts: Sequence[str] | None = None,
) -> None:
    """Log a finished job to W&B, with pictures, tables and artifacts; its numbers to the others.

    Failures only warn: the job is done.

    Args:
        folder: the job's folder, with its skill and its picture.
        fingerprint, content_hash: hashes of its data and its backbone.
        texts: of the validation split, for the table of mistakes; None: without them.
    """
    hashes = {"fingerprint": fingerprint, "content_hash": content_hash}
    for each in loggers:
        try:
            if isinstance(each, WandbLogger) and not each.experiment.disabled:
                from skip_exp.logger import runs  # importing wandb takes a third of a second

                runs.log_result(each.experiment, result, folder, hashes, texts)
            elif isinstance(each, TensorBoardLogger | MLFlowLogger):
                log_numbers(each, result)
        except Exception as problem:
            name = "W&B" if isinstance(each, WandbLogger) else type(each).__name__
            log.warning("%s: cannot log the whole result: %s", name, first_line(problem))
