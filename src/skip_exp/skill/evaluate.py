"""Score a skill or an ONNX export on rows of the user's. Imports no torch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig
from skip_exp.data.batches import Row
from skip_exp.data.given import columns_of, to_table
from skip_exp.data.read import Table
from skip_exp.data.rows import get_labels, to_rows
from skip_exp.errors import shown_names
from skip_exp.outcomes.labels import label_text, with_indices
from skip_exp.outcomes.scores import Floats, Labels
from skip_exp.skill.record import SkillRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Rows that are scored: what they are of, as they were given, and the good ones by number."""

    task: TaskConfig
    table: Table
    rows: dict[int, Row]


def read_labelled(
    about: SkillRecord,
    data: Any,
    label: str | None,
    reading: DataConfig,
) -> Labelled:
    """The rows of ``data``, as :meth:`Classifier.evaluate` takes them. Raises SkipError."""
    metrics = about.outcome.choose_metrics([])
    task = TaskConfig(
        name=about.task,
        text=about.text,
        label=label or about.label,
        labels=list(about.labels),
        metrics=list(dict.fromkeys([about.scores.metric or metrics[0], *metrics])),
        kind=about.kind,
    )
    table = to_table(data, task.text, task.label or task.label_columns, reading)
    return Labelled(task, table, to_rows(table, task, "test", reading.drop_bad))


def score_rows(
    about: SkillRecord, labelled: Labelled, probabilities: list[list[float]], reject: float
) -> dict[str, Any]:
    """What :meth:`Classifier.evaluate` returns, by the probabilities of all rows."""
    task = labelled.task
    outcome = task.outcome
    if outcome.is_exclusive:
        _log_order(labelled)
    true = np.array(get_labels(list(labelled.rows.values())))
    answers = np.array(probabilities)
    predicted = outcome.give(answers, about.threshold)
    scores: dict[str, Any] = {"rows": len(true)}
    scores |= score_answers(task, answers, true, about.threshold)
    if reject:
        is_sure = answers.max(1) >= reject
        scores["coverage"] = float(is_sure.mean())
        # Metrics of no rows at all are undefined.
        scores["answered"] = (
            score_answers(task, answers[is_sure], true[is_sure]) if is_sure.any() else {}
        )
    scores["classes"] = score_classes(about.labels, true, predicted)
    if outcome.is_exclusive:
        scores["confusion"] = confusion(about.labels, true, predicted)
    confidence = outcome.rate_mistakes(answers, predicted, true)
    scores["errors"] = _list_errors(labelled, true, predicted, confidence)
    return scores


def _list_errors(
    labelled: Labelled, true: Labels, predicted: Labels, confidence: Floats
) -> list[dict[str, Any]]:
    """The mistakes, the most confident first; ``confidence`` [rows] is negative for the others."""
    outcome = labelled.task.outcome
    labels = labelled.task.labels
    numbers = list(labelled.rows)
    errors = []
    for i in np.argsort(-confidence, kind="stable"):
        if confidence[i] < 0:
            break
        cells = labelled.table.rows[numbers[i] - 1]
        texts = {column: cells[column] for column in columns_of(labelled.task.text)}
        answer = {
            "true": outcome.name(true[i], labels),
            "predicted": outcome.name(predicted[i], labels),
            "probability": float(confidence[i]),
        }
        errors.append({"row": numbers[i]} | texts | answer)
    return errors


def score_answers(
    task: TaskConfig, answers: Floats, true: Labels, threshold: float | None = None
) -> dict[str, float]:
    """The metrics of ``task`` by name, of probabilities [rows, labels]."""
    from scipy.special import logit  # takes a fifth of a second: not for --help

    bound = None if threshold is None else float(logit(threshold))
    return task.outcome.score(task.metrics, logit(answers), true, bound)


def score_classes(
    names: Sequence[str], true: Labels, predicted: Labels
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of every class; a ratio without rows is 0.

    Args:
        true, predicted: class indices [rows], or 0 and 1 [rows, labels].
    """
    from sklearn.metrics import precision_recall_fscore_support  # takes a second

    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=range(len(names)), zero_division=0
    )
    classes = {}
    for i, name in enumerate(names):
        classes[name] = {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
    return classes


def confusion(names: Sequence[str], true: Labels, predicted: Labels) -> dict[str, dict[str, int]]:
    """How often each true label [rows] was answered by each label."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (true, predicted), 1)
    rows = [dict(zip(names, row, strict=True)) for row in counts.tolist()]
    return dict(zip(names, rows, strict=True))


def _log_order(labelled: Labelled) -> None:
    """Say which class an index stands for: the order may be one that ``fit`` has found."""
    task = labelled.task
    indices = {str(i) for i in range(len(task.labels))}
    rows = labelled.table.rows
    cells = {label_text(rows[number - 1][task.label]) for number in labelled.rows}
    if with_indices(task.labels) and indices & cells:
        order = shown_names([f"{i} is {name}" for i, name in enumerate(task.labels)])
        log.warning("evaluate: numbers are indices of the skill's classes: %s", order)
