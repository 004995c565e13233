"""What a task is: where its rows are, which columns make its texts, its labels and metrics."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf

from skip_exp.config.schema import TaskConfig
from skip_exp.errors import ConfigError

METRICS = ("accuracy", "f1", "f1_macro", "matthews")
_FIELD = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class TaskSpec:
    """A validated :class:`skip_exp.config.schema.TaskConfig`; the fields mean the same."""

    name: str
    text: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    hub: dict[str, str] = field(default_factory=dict, hash=False)
    files: dict[str, str] = field(default_factory=dict, hash=False)
    label: str = "label"
    words: tuple[str, ...] = ()
    train: str = "train"
    validation: str = "validation"
    extra: tuple[str, ...] = ()

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    @property
    def pair(self) -> bool:
        """Whether an example has two texts."""
        return len(self.text) == 2

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read, in reading order."""
        return (self.train, self.validation, *self.extra)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the texts are made of, in order of first use."""
        return tuple(dict.fromkeys(c for entry in self.text for c in text_columns(entry)))


def text_columns(entry: str) -> list[str]:
    """Columns named by an entry of ``text``: its ``{fields}``, or the entry itself."""
    return _FIELD.findall(entry) or [entry]


def fill(entry: str, row: Mapping[str, str]) -> str:
    """The text that an entry of ``text`` (a column name or a template) gives for a row."""
    # Not str.format: a template must not reach into attributes, nor choke on odd column names.
    if not _FIELD.search(entry):
        return row[entry]
    return _FIELD.sub(lambda match: row[match.group(1)], entry)


def task_spec(cfg_task: Any) -> TaskSpec:
    """Validate the ``task`` group (DictConfig, dict or TaskConfig).

    Raises:
        ConfigError: a required key is missing, or a value cannot describe a classification task.
    """
    merged = OmegaConf.merge(OmegaConf.structured(TaskConfig), cfg_task)
    for key in sorted(OmegaConf.missing_keys(merged)):
        raise ConfigError(f"task.{key}", "???", "must be given in the task's YAML")
    plain: Any = OmegaConf.to_container(merged, resolve=True)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    spec = TaskSpec(**values)
    _check(spec)
    return spec


def _check(spec: TaskSpec) -> None:
    if len(spec.text) not in (1, 2):
        raise ConfigError("task.text", list(spec.text), "one or two columns or templates")
    if len(spec.labels) < 2 or len(set(spec.labels)) < len(spec.labels):
        raise ConfigError("task.labels", list(spec.labels), "two or more different names")
    if spec.words and len(spec.words) != len(spec.labels):
        raise ConfigError("task.words", list(spec.words), f"one per label of {list(spec.labels)}")
    if not spec.metrics or not set(spec.metrics) <= set(METRICS):
        known = ", ".join(METRICS)
        raise ConfigError("task.metrics", list(spec.metrics), f"one or more of {known}")
    if "f1" in spec.metrics and len(spec.labels) != 2:
        raise ConfigError("task.metrics", "f1", "needs exactly two labels; use f1_macro")
    if spec.hub and ("path" not in spec.hub or not set(spec.hub) <= {"path", "name"}):
        raise ConfigError("task.hub", spec.hub, "path, and name if the data set has configurations")
