"""A checked task description."""

from typing import Any

from omegaconf import OmegaConf

from skip_exp.config.schema import typed
from skip_exp.config.task import TaskConfig
from skip_exp.errors import ConfigError


def task_spec(described: Any) -> TaskConfig:
    """The ``task`` group (a DictConfig or dict) as a checked object.

    Raises:
        ConfigError: a required key is missing, or a value is not allowed.
    """
    merged = OmegaConf.merge(OmegaConf.structured(TaskConfig), described)
    for key in sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"task.{key}", "???", "must be set in the task's YAML")
    return typed(merged, TaskConfig)
