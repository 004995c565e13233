"""The logger of a job, and what is logged beside what Lightning logs by itself."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from skip_exp import results
from skip_exp.config.schema import Config


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
def log_summary(logger: Logger | None, result: Mapping[str, Any]) -> None:
    """W&B's summary: the fields of ``result.json``, nested ones joined by ``/``."""
    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    run.summary.update(results.flatten(result))
    if result.get("data_is_sample"):
        run.tags = (*run.tags, "sample")  # generated rows are marked wherever they show
