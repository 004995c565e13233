"""The loggers beside W&B, which Lightning brings: MLflow and TensorBoard."""

import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger

from skip_exp import results
from skip_exp.config.prune import name_goal
from skip_exp.config.schema import Config

PROJECT = "skip_exp"
LOCAL_MLFLOW = "sqlite:///outputs/mlflow.db"  # without MLFLOW_TRACKING_URI


def name_run(cfg: Config) -> str:
    """A job's name in W&B and MLflow: task, backbone, what is pruned, seed."""
    goal = name_goal(vars(cfg.prune))
    return f"{cfg.task.name}-{cfg.backbone.label}-{goal}-{cfg.seed}"


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
