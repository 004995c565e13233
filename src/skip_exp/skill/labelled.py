"""Rows with labels, as the task of a skill reads them, before anything is scored.

Imports no torch: a command that is refused ends at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skip_exp.config.schema import DataConfig
from skip_exp.config.task import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.frames import to_table
from skip_exp.data.read import Table
from skip_exp.data.rows import to_rows
from skip_exp.skill.record import SkillRecord


@dataclass(frozen=True)
class Labelled:
    """Rows that are scored: what they are of, as they were given, and the good ones by number."""

    task: TaskConfig
    table: Table
    rows: dict[int, Row]


def read_labelled(
    about: SkillRecord,
    data: Any,
    labels: Sequence[Any] | None,
    label: str | None,
    reading: DataConfig,
) -> Labelled:
    """The rows of ``data``, as :meth:`Classifier.evaluate` takes them. Raises SkipError."""
    columns, column = about.text, label or about.label
    if labels is not None:  # whole texts, even where the task builds them from several columns
        columns = [f"text {number}" for number, _ in enumerate(columns, 1)]
        column = column or "label"
    metrics = about.outcome.choose_metrics([])
    task = TaskConfig(
        name=about.task,
        text=columns,
        label=column,
        labels=list(about.labels),
        metrics=list(dict.fromkeys([about.scores.metric or metrics[0], *metrics])),
        multilabel=not about.outcome.is_exclusive,
    )
    table = to_table(data, task.text, task.label or task.label_columns, labels, reading=reading)
    return Labelled(task, table, to_rows(table, task, "test", reading.drop_bad))
