"""The metrics that score a task, and the temperature that makes probabilities honest."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from skip_exp.config.task import TaskConfig

FEWEST = 50  # rows that a temperature is fitted on; fewer say too little
COLDEST, HOTTEST = 0.05, 20.0
BINS = 15  # of the expected calibration error


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


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature by which logits are divided so that probabilities are calibrated.

    Example:
        >>> fit_temperature(torch.tensor([[4.0, 0.0]] * 60), torch.tensor([0] * 45 + [1] * 15))
        3.7145

    Minimizes the negative log-likelihood (Guo et al. 2017). One more row, whose labels are all
    equally likely, keeps it finite where every answer is right (Platt 1999). With fewer than 50
    rows it is 1.

    Args:
        logits: of rows that nothing was trained on [rows, labels].
        labels: class indices [rows].
    """
    rows = len(labels)
    if rows < FEWEST:
        return 1.0
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        softened = logits / math.exp(log_temperature)
        return F.cross_entropy(softened, labels, label_smoothing=1 / (rows + 1)).item()

    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return round(math.exp(found.x), 4)


def calibration_error(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """Expected calibration error in 15 bins of equal width, as a fraction.

    Example: 0.03 where answers are on average 3 points less often right than they claim.

    Args:
        logits: [rows, labels].
        labels: class indices [rows].
    """
    probabilities = (logits / temperature).softmax(-1)
    error = multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=BINS)
    return float(error)
