"""Loggers beside W&B: TensorBoard and MLflow by Lightning, and several at once."""

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from skip_exp import results
from skip_exp.config.prune import name_goal
from skip_exp.config.schema import Config

PROJECT = "skip_exp"
LOCAL_MLFLOW = "sqlite:///outputs/mlflow.db"  # without MLFLOW_TRACKING_URI


class Several(Logger):
    """Several loggers as one: each gets what is logged."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        super().__init__()
        self.loggers = loggers

    @property
    def name(self) -> str | None:
        return self.loggers[0].name

    @property
    def version(self) -> int | str | None:
        return self.loggers[0].version

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for each in self.loggers:
            each.log_metrics(dict(metrics), step)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        for each in self.loggers:
            each.log_hyperparams(params)

    def save(self) -> None:
        for each in self.loggers:
            each.save()

    def finalize(self, status: str) -> None:
        for each in self.loggers:
            each.finalize(status)


def list_loggers(logger: Logger | None) -> list[Logger]:
    """The loggers that a job's logger stands for."""
    if isinstance(logger, Several):
        return list(logger.loggers)
    return [] if logger is None else [logger]


def name_run(cfg: Config) -> str:
    """A job's name in W&B and MLflow: task, backbone, what is pruned, seed."""
    goal = name_goal(vars(cfg.prune))
    return f"{cfg.task.name}-{cfg.backbone.label}-{goal}-{cfg.seed}"


def open_tensorboard(cfg: Config) -> Logger:
    """Event files in the job's folder: ``tensorboard --logdir outputs`` shows them."""
    return TensorBoardLogger(
        cfg.output_dir, name=None, version="tensorboard", default_hp_metric=False
    )


def open_mlflow(cfg: Config) -> Logger:
    """A run at MLFLOW_TRACKING_URI, else in a file of ``outputs``."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        uri = LOCAL_MLFLOW
        Path("outputs").mkdir(exist_ok=True)
    tags = {"task": cfg.task.name, "backbone": cfg.backbone.label}
    if cfg.sweep.id:
        tags["sweep"] = cfg.sweep.id
    if cfg.logger.notes:
        tags["mlflow.note.content"] = cfg.logger.notes
    return MLFlowLogger(
        experiment_name=cfg.logger.project or PROJECT,
        run_name=name_run(cfg),
        tracking_uri=uri,
        tags=tags,
    )


def log_numbers(logger: Logger, result: Mapping[str, Any]) -> None:
    """Log a finished job's settings and numbers to TensorBoard or MLflow."""
    logger.log_hyperparams(result["config"])
    numbers = {}
    for name, value in results.flatten(result).items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if is_number and not name.startswith("keep_sizes/"):
            numbers[name] = float(value)
    logger.log_metrics(numbers, step=0)
    logger.save()
