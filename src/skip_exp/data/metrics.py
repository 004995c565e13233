"""The torchmetrics collection that scores a task, and what it says of a constant answer."""

from collections import Counter
from collections.abc import Sequence

import torch
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)

from skip_exp.config.task import TaskConfig


def build_metrics(spec: TaskConfig) -> MetricCollection:
    """Metrics of a task, keyed by name; update them with predicted and true class indices [n].

    ``f1`` is the binary F1 of label 1, ``f1_macro`` the mean over classes.
    """
    n = spec.num_labels
    make: dict[str, Metric] = {
        "accuracy": MulticlassAccuracy(n, average="micro"),
        "f1": BinaryF1Score(),
        "f1_macro": MulticlassF1Score(n, average="macro"),
        # An extra, empty class leaves the value unchanged. With exactly two classes torchmetrics
        # has a special case in which constant predictions get a correlation other than 0.
        "matthews": MulticlassMatthewsCorrCoef(n + 1),
    }
    return MetricCollection({name: make[name] for name in spec.metrics})


def majority_scores(spec: TaskConfig, labels: Sequence[int]) -> dict[str, float]:
    """Scores of always predicting the most frequent of the labels, keyed by metric.

    Example: of the labels 0, 1, 1, 1 it has accuracy 0.75 and F1 0.857.
    """
    answer = Counter(labels).most_common(1)[0][0]
    metrics = build_metrics(spec)
    found = metrics(torch.full((len(labels),), answer), torch.tensor(labels))
    return {name: score.item() for name, score in found.items()}
