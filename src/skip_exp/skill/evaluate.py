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
    task, table, rows = labelled.task, labelled.table, labelled.rows
    if task.outcome.is_exclusive:
        _tell_order({label_text(table.rows[n - 1][task.label]) for n in rows}, task.labels)
    outcome, threshold = task.outcome, about.threshold
    true, answers = np.array(get_labels([*rows.values()])), np.array(probabilities)
    given = outcome.give(answers, threshold)
    found: dict[str, Any] = {"rows": len(rows), **score_answers(task, answers, true, threshold)}
    if reject:
        kept = answers.max(1) >= reject
        found["coverage"] = float(kept.mean())
        found["answered"] = score_answers(task, answers[kept], true[kept]) if kept.any() else {}
    found["classes"] = score_classes(about.labels, true, given)
    if outcome.is_exclusive:
        found["confusion"] = confusion(about.labels, true, given)
    found["errors"] = []
    worst = outcome.rate_mistakes(answers, given, true)
    numbers, shown = [*rows], columns_of(task.text)
    for i in np.argsort(-worst, kind="stable"):
        if worst[i] >= 0:
            cells = {name: table.rows[numbers[i] - 1][name] for name in shown}
            wrong = {
                "true": outcome.name(true[i], about.labels),
                "predicted": outcome.name(given[i], about.labels),
                "probability": float(worst[i]),
            }
            found["errors"].append({"row": numbers[i]} | cells | wrong)
    return found


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

    parts = ("precision", "recall", "f1", "support")
    columns = precision_recall_fscore_support(
        true, predicted, labels=range(len(names)), zero_division=0
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {name: dict(zip(parts, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def confusion(names: Sequence[str], true: Labels, predicted: Labels) -> dict[str, dict[str, int]]:
    """How often each true label [rows] was answered by each label."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (true, predicted), 1)
    rows = zip(names, counts.tolist(), strict=True)
    return {name: dict(zip(names, row, strict=True)) for name, row in rows}


def _tell_order(given: set[str], names: Sequence[str]) -> None:
    """Say which class an index stands for: the order may be one that ``fit`` has found."""
    if with_indices(names) and given & {str(i) for i in range(len(names))}:
        order = shown_names([f"{i} is {name}" for i, name in enumerate(names)])
        log.warning("evaluate: numbers are indices of the skill's classes: %s", order)
