"""The logger of a job, and what is logged beside what Lightning logs by itself."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from skip_exp import results
from skip_exp.config.schema import Config
from skip_exp.errors import first_line
from skip_exp.logger import picture

log = logging.getLogger(__name__)

KEPT = "/kept_epoch"  # a row that has it is of the epoch that the phase kept


class PhaseLogger(WandbLogger):
    """Logs ``tune/...`` against ``tune/step`` and ``retune/...`` against ``retune/step``.

    A phase's row in the summary is that of the epoch it kept (:data:`KEPT`), not of its last.
    Where W&B's own process is gone, a warning says so, once; the job goes on.
    """

    is_lost = False

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row: dict[str, float | None] = {
            name: value for name, value in metrics.items() if name != "epoch"
        }
        for phase in {name.partition("/")[0] for name in row if "/" in name}:
            row[f"{phase}/step"] = step
            if "epoch" in metrics:
                row[f"{phase}/epoch"] = metrics["epoch"]
        told = {name: value for name, value in row.items() if value is not None}
        is_kept = any(name.endswith(KEPT) for name in told)
        try:
            (self.experiment.summary.update if is_kept else self.experiment.log)(told)
        except Exception as problem:
            if not self.is_lost:
                log.warning("W&B: curves are lost: %s", first_line(problem))
            self.is_lost = True


def build_logger(cfg: Config) -> Logger | None:
    """The logger that ``cfg.logger`` names; W&B's run is open when this returns.

    Raises:
        ConfigError: online without a key.
        SkipError: W&B refuses (a bad key, an unknown entity).
    """
    match cfg.logger.name:
        case "none":
            return None
        case "csv":
            return CSVLogger(save_dir=cfg.output_dir, name=None, version="csv")
        case _:
            from skip_exp.logger import runs  # wandb takes a third of a second: where it is used

            run = runs.open_run(cfg)
            return PhaseLogger(project=cfg.logger.project, experiment=run)


@rank_zero_only
def mirror(
    logger: Logger | None,
    result: Mapping[str, Any],
    folder: Path,
    fingerprint: str,
    content_hash: str,
) -> None:
    """Show a finished job in W&B: summary, picture, table and artifacts; trouble costs a warning.

    Args:
        folder: of the job, where its skill and its picture are.
        fingerprint, content_hash: of its data and of its backbone.
    """
    if not isinstance(logger, WandbLogger):
        return
    import wandb  # it is there: a run is open

    from skip_exp.logger import artifacts  # imports it, too

    run = logger.experiment
    if run.disabled:  # it has no place for an artifact
        return
    try:
        _log_summary(run, result)
        run.log({"keep": wandb.Image(str(folder / picture.FILE))})
        with artifacts.staged(folder):
            # The table first: to log it asks the server, if there is one, and gives up in time.
            # With artifacts on their way to a server that is gone, a run would not end.
            columns, rows = picture.table(result["keep_sizes"])
            run.log({"sites": wandb.Table(columns=columns, data=rows)})
            if result["config"]["tune"]["train"] != "full":  # that skill is a whole model
                artifacts.log_artifacts(run, result, folder, fingerprint, content_hash)
    except Exception as problem:  # the job is done, whatever W&B makes of it
        log.warning("W&B: not all of the result is shown: %s", first_line(problem))


def _log_summary(run: Any, result: Mapping[str, Any]) -> None:
    """The fields of ``result.json``, nested ones joined by ``/``."""
    run.summary.update(results.flatten(result))
    if result.get("data_is_sample"):
        run.tags = (*(run.tags or ()), "sample")  # generated rows are marked wherever they show
