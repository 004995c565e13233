"""Score a skill or an ONNX export on rows of the user's."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from skip_exp.config.task import TaskConfig
from skip_exp.data.metrics import build_metrics
from skip_exp.data.read import to_table
from skip_exp.data.rows import get_labels, integer_text, to_rows, with_indices
from skip_exp.data.text import shown_names
from skip_exp.skill.record import SkillRecord

log = logging.getLogger(__name__)


def on_rows(
    about: SkillRecord,
    probabilities: Callable[[list[list[str]]], list[list[float]]],
    data: Any,
    labels: Sequence[Any] | None,
    label: str | None,
    drop_bad: bool,
) -> dict[str, Any]:
    """:meth:`Classifier.evaluate` of a classifier by its ``probabilities``. Raises SkipError."""
    columns = about.text
    if labels is not None:  # whole texts, even where the task builds them from several columns
        columns = [f"text {number}" for number, _ in enumerate(columns, 1)]
    metric = about.scores.metric or "accuracy"
    task = TaskConfig(
        name=about.task,
        text=columns,
        label=label or about.label,
        labels=list(about.labels),
        metrics=list(dict.fromkeys([metric, "accuracy", "f1_macro"])),
    )
    table = to_table(data, task.text, task.label, labels)
    _tell_order(table.column(task.label), task.labels)
    rows = to_rows(table, task, "test", drop_bad, "drop_bad=True or --drop-bad")
    true = get_labels(rows)
    found = probabilities([row["texts"] for row in rows])
    predicted = [max(range(len(row)), key=row.__getitem__) for row in found]
    metrics = build_metrics(task)
    metrics.update(torch.tensor(predicted), torch.tensor(true))
    scores = {name: value.item() for name, value in metrics.compute().items()}
    counts = confusion(about.labels, true, predicted)
    return {"rows": len(rows), **scores, "confusion": counts}


def _tell_order(given: Iterable[Any], names: Sequence[str]) -> None:
    """Say which class an index stands for: the order may be one that ``fit`` has found."""
    indices = {str(i) for i in range(len(names))}
    if with_indices(names) and indices & {integer_text(str(each)) for each in given}:
        order = shown_names([f"{i} is {name}" for i, name in enumerate(names)])
        log.warning("evaluate: numbers are indices of the skill's classes: %s", order)


def confusion(
    names: Sequence[str], true: Sequence[int], predicted: Sequence[int]
) -> dict[str, dict[str, int]]:
    """How often each true label was answered by each label."""
    given = torch.tensor(predicted), torch.tensor(true)
    rows = multiclass_confusion_matrix(*given, num_classes=len(names)).tolist()
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, rows, strict=True)}
