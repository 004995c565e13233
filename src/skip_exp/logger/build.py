"""A job's logger, and the final results that Lightning does not log by itself."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from skip_exp.config.schema import Config
from skip_exp.errors import first_line

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


def build_logger(cfg: Config, unfinished: Path | None = None) -> Logger | None:
    """Build the logger that ``cfg.logger`` selects, and open its W&B run.

    Args:
        unfinished: file for the id of the W&B run, by which a killed job goes on with it.

    Raises:
        ConfigError: online without a key; no mode or project of W&B's in the environment.
        SkipError: W&B refuses (a bad key, an unknown entity).
    """
    match cfg.logger.name:
        case "none":
            return None
        case "csv":
            return CSVLogger(save_dir=cfg.output_dir, name=None, version="csv")
        case _:
            from skip_exp.logger import runs  # importing wandb takes a third of a second

            run = runs.open_run(cfg, unfinished)
            return PhaseLogger(project=cfg.logger.project, experiment=run)


@rank_zero_only
def mirror(
    logger: Logger | None,
    result: Mapping[str, Any],
    folder: Path,
    fingerprint: str,
    content_hash: str,
) -> None:
    """Log a finished job's summary, picture, table and artifacts to W&B; failures only warn.

    Args:
        folder: the job's folder, with its skill and its picture.
        fingerprint, content_hash: hashes of its data and its backbone.
    """
    if not isinstance(logger, WandbLogger) or logger.experiment.disabled:
        return
    from skip_exp.logger import runs  # importing wandb takes a third of a second

    hashes = {"fingerprint": fingerprint, "content_hash": content_hash}
    try:
        runs.log_result(logger.experiment, result, folder, hashes)
    except Exception as problem:  # the job is done even if W&B fails
        log.warning("W&B: cannot log the whole result: %s", first_line(problem))
