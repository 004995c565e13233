"""The task of rows as `skip_exp.fit` describes it, without a job."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from skip_exp.api.fit import compose_job
from skip_exp.api.task import describe_task, read_given


@cache
def compose_given(*overrides: str) -> DictConfig:
    """The configuration of a job without its task; once for all tests, since it takes longest."""
    return compose_job(overrides, Path("outputs"))


def describe(
    data: Any,
    root: Path,
    *,
    text: Any = "text",
    label: Any = "label",
    validation: Any = None,
    overrides: Any = (),
) -> dict[str, Any]:
    """The config group ``task``; rows that are no file are written below ``root``."""
    cfg = compose_given(*overrides)
    return describe_task(read_given(data, text, label, validation, cfg), cfg, root)
