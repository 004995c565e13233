"""The metrics a task is scored by."""

from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)

from skip_exp.config.task import TaskConfig


def build_metrics(spec: TaskConfig) -> MetricCollection:
    """Collection keyed by metric name; update it with ``(preds, labels)``.

    Both are integer class indices of shape ``[n]`` (the argmax, not logits). ``f1`` is the binary
    F1 of label 1; ``accuracy`` counts rows, ``f1_macro`` averages classes.
    """
    n = spec.num_labels
    make: dict[str, Metric] = {
        "accuracy": MulticlassAccuracy(n, average="micro"),
        "f1": BinaryF1Score(),
        "f1_macro": MulticlassF1Score(n, average="macro"),
        # An empty class more leaves the value as it is but avoids torchmetrics' special case of two
        # labels, which gives constant predictions a correlation other than 0.
        "matthews": MulticlassMatthewsCorrCoef(n + 1),
    }
    return MetricCollection({name: make[name] for name in spec.metrics})
