"""From a task's description to its texts: the columns they are made of, and how."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from skip_exp.config.schema import typed
from skip_exp.config.task import TaskConfig
from skip_exp.errors import ConfigError

_FIELD = re.compile(r"\{([^{}]+)\}")


def text_columns(entry: str) -> list[str]:
    """Columns named by an entry of ``text``: its ``{fields}``, or the entry itself."""
    return _FIELD.findall(entry) or [entry]


def columns(task: TaskConfig) -> tuple[str, ...]:
    """The columns that the texts are made of, in order of first use."""
    return tuple(dict.fromkeys(column for entry in task.text for column in text_columns(entry)))


def fill(entry: str, row: Mapping[str, str]) -> str:
    """The text that an entry of ``text`` (a column name or a template) gives for a row."""
    # Not str.format: a template must not reach into attributes, nor choke on odd column names.
    if not _FIELD.search(entry):
        return row[entry]
    return _FIELD.sub(lambda match: row[match.group(1)], entry)


def task_spec(described: Any) -> TaskConfig:
    """The ``task`` group (DictConfig or dict) as an object, checked.

    Raises:
        ConfigError: a required key is missing, or a value cannot describe a classification task.
    """
    merged = OmegaConf.merge(OmegaConf.structured(TaskConfig), described)
    for key in sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"task.{key}", "???", "must be given in the task's YAML")
    return typed(merged, TaskConfig)
