"""A checked task description, and the columns it reads."""

from typing import Any

from omegaconf import OmegaConf

from skip_exp.config.schema import typed
from skip_exp.config.task import TaskConfig
from skip_exp.data.text import text_columns
from skip_exp.errors import ConfigError


def columns(task: TaskConfig) -> tuple[str, ...]:
    """Columns that the task's texts use, in order of first use."""
    return tuple(dict.fromkeys(column for entry in task.text for column in text_columns(entry)))


def task_spec(described: Any) -> TaskConfig:
    """The ``task`` group (a DictConfig or dict) as a checked object.

    Raises:
        ConfigError: a required key is missing, or a value is not allowed.
    """
    merged = OmegaConf.merge(OmegaConf.structured(TaskConfig), described)
    for key in sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"task.{key}", "???", "must be set in the task's YAML")
    return typed(merged, TaskConfig)
