"""Score a skill or an ONNX export on rows of the user's."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from skip_exp.config.task import TaskConfig
from skip_exp.data.labels import JOINTS, label_text, with_indices
from skip_exp.data.metrics import build_metrics
from skip_exp.data.rows import get_labels
from skip_exp.data.text import columns_of, shown_names
from skip_exp.skill.labelled import Labelled
from skip_exp.skill.record import SkillRecord

log = logging.getLogger(__name__)


def score_rows(
    about: SkillRecord, labelled: Labelled, probabilities: list[list[float]], reject: float
) -> dict[str, Any]:
    """What :meth:`Classifier.evaluate` returns, by the probabilities of all rows."""
    task, table, rows = labelled.task, labelled.table, labelled.rows
    if not task.multilabel:
        _tell_order({label_text(table.rows[n - 1][task.label]) for n in rows}, task.labels)
    true = torch.tensor(get_labels([*rows.values()]))
    answers = torch.tensor(probabilities, dtype=torch.float64)
    cells = [{"row": number} | table.rows[number - 1] for number in rows]
    shown = ["row", *columns_of(task.text)]
    if about.threshold is not None:
        return _on_rows_of_several(about, task, true, answers, cells, shown)
    certainty, predicted = answers.max(1)
    counts = multiclass_confusion_matrix(predicted, true, num_classes=len(about.labels))
    found: dict[str, Any] = {"rows": len(rows), **_score(task, predicted, true)}
    if reject:
        kept = certainty >= reject
        found["coverage"] = kept.float().mean().item()
        found["answered"] = _score(task, predicted[kept], true[kept]) if kept.any() else {}
    found["classes"] = score_classes(about.labels, true, predicted)
    found["confusion"] = confusion(about.labels, counts)
    found["errors"] = _list_errors(cells, shown, about.labels, true, predicted, certainty)
    return found


def _on_rows_of_several(
    about: SkillRecord,
    task: TaskConfig,
    true: Tensor,
    answers: Tensor,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
) -> dict[str, Any]:
    """What :func:`score_rows` finds where a text has any number of labels.

    Args:
        true: 0 or 1 [rows, labels].
        answers: probabilities [rows, labels].
    """
    threshold = torch.tensor(about.threshold, dtype=answers.dtype)
    given = (answers > threshold).int()
    scores = _score(task, answers.logit(), true, threshold.logit().item())
    found: dict[str, Any] = {"rows": len(rows), **scores}
    found["classes"] = score_classes(about.labels, true, given)
    certainty = torch.where(given == 1, answers, 1 - answers)  # of each yes and no
    worst = certainty.masked_fill(given == true, -1).amax(1)
    found["errors"] = []
    for i in worst.argsort(descending=True, stable=True).tolist():
        if worst[i] >= 0:
            cells = {name: rows[i][name] for name in columns}
            wrong = {
                "true": _join(about.labels, true[i]),
                "predicted": _join(about.labels, given[i]),
            }
            found["errors"].append(cells | wrong | {"probability": worst[i].item()})
    return found


def _join(names: Sequence[str], given: Tensor) -> str:
    """The names of a text's labels, as a cell has them."""
    return JOINTS[0].join(name for name, has in zip(names, given.tolist(), strict=True) if has)


def _score(
    task: TaskConfig, predicted: Tensor, true: Tensor, bound: float | None = None
) -> dict[str, float]:
    metrics = build_metrics(task, bound)
    metrics.update(predicted, true)
    return {name: value.item() for name, value in metrics.compute().items()}


def _list_errors(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    names: Sequence[str],
    true: Tensor,
    predicted: Tensor,
    certainty: Tensor,
) -> list[dict[str, Any]]:
    """These columns of the rows with a wrong answer, and what is wrong; the most certain first."""
    errors = []
    for i in certainty.argsort(descending=True, stable=True).tolist():
        if predicted[i] != true[i]:
            wrong = {"true": names[int(true[i])], "predicted": names[int(predicted[i])]}
            cells = {name: rows[i][name] for name in columns}
            errors.append(cells | wrong | {"probability": certainty[i].item()})
    return errors


def score_classes(
    names: Sequence[str], true: Tensor, predicted: Tensor
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every class; a ratio without rows is 0.

    Args:
        true, predicted: class indices [rows], or 0 and 1 [rows, labels].
    """
    from sklearn.metrics import precision_recall_fscore_support  # takes a second

    parts = ("precision", "recall", "f1", "support")
    columns = precision_recall_fscore_support(
        true.numpy(), predicted.numpy(), labels=range(len(names)), zero_division=0
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {name: dict(zip(parts, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def confusion(names: Sequence[str], counts: Tensor) -> dict[str, dict[str, int]]:
    """How often each true label was answered by each label."""
    rows = counts.tolist()
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def _tell_order(given: set[str], names: Sequence[str]) -> None:
    """Say which class an index stands for: the order may be one that ``fit`` has found."""
    if with_indices(names) and given & {str(i) for i in range(len(names))}:
        order = shown_names([f"{i} is {name}" for i, name in enumerate(names)])
        log.warning("evaluate: numbers are indices of the skill's classes: %s", order)
