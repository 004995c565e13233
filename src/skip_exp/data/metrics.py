"""The metrics that score a task, and the temperature that makes probabilities honest."""

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_f1_score,
)
from torchmetrics.utilities import dim_zero_cat

from skip_exp.config.task import TaskConfig
from skip_exp.data.outcome import outcome_of
from skip_exp.data.scores import score

FEWEST = 50  # rows that a temperature or a threshold is fitted on; fewer say too little
COLDEST, HOTTEST = 0.05, 20.0
MULTILABEL_SCORES = {
    "f1_micro": partial(multilabel_f1_score, average="micro"),
    "f1_macro": partial(multilabel_f1_score, average="macro"),
    "average_precision": partial(multilabel_average_precision, average="macro"),
}


def build_metrics(spec: TaskConfig, bound: float | None = None) -> MetricCollection | Metric:
    """Metrics of a task, keyed by name; update them with an outcome's answers and the labels.

    ``f1`` is the binary F1 of label 1, ``f1_macro`` the mean over classes. ``f1_micro`` counts the
    labels of all texts alike; ``average_precision`` is the mean over labels, for any threshold.

    Args:
        bound: of several labels per text, the logit above which a label is given; None: the one
            that suits the rows best.
    """
    if spec.multilabel:
        return MultilabelScores(spec, bound)
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


class MultilabelScores(Metric):
    """The metrics of a task of several labels per text; its rows are scored together at the end.

    Args:
        bound: see :func:`build_metrics`.
    """

    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self, spec: TaskConfig, bound: float | None = None) -> None:
        super().__init__()
        self.spec, self.bound = spec, bound
        for name in ("logits", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add logits and their 0/1 labels [B, labels]."""
        self.logits.append(logits.float())
        self.labels.append(labels)

    def compute(self) -> dict[str, Tensor]:
        logits, labels = dim_zero_cat(self.logits), dim_zero_cat(self.labels)
        bound = find_bound(logits, labels) if self.bound is None else self.bound
        given = (logits - bound).sigmoid()  # torchmetrics' threshold is 0.5
        scores: dict[str, Tensor] = {}
        with warnings.catch_warnings(action="ignore"):  # of labels without rows: they do not count
            for name in self.spec.metrics:
                scores[name] = MULTILABEL_SCORES[name](given, labels, self.spec.num_labels)
        return {name: score.nan_to_num() for name, score in scores.items()}


def find_bound(logits: Tensor, labels: Tensor) -> float:
    """The logit above which a label is given, so that the F1 of all labels alike is highest.

    Example:
        >>> logits = torch.tensor([[3.0, 1.0], [-3.0, -2.0]] * 25)
        >>> find_bound(logits, torch.tensor([[1, 1], [0, 0]] * 25))
        -0.5

    It is midway to the next lower logit. With fewer than 50 rows it is 0: a probability of 0.5.

    Args:
        logits: of rows that nothing was trained on [rows, labels].
        labels: 0 or 1 [rows, labels].
    """
    if len(labels) < FEWEST or not labels.any():
        return 0.0
    from sklearn.metrics import precision_recall_curve  # takes a second; one label needs none

    precision, recall, at = precision_recall_curve(labels.flatten().cpu(), logits.flatten().cpu())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    return float(at[max(best - 1, 0)] + at[best]) / 2


def find_shift(logits: Tensor, labels: Tensor, rare: Sequence[int]) -> list[float]:
    """What to add to the logits of rare labels [labels], so that F1 macro is highest.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]] * 48 + [[2.0, 1.0]] * 2)
        >>> find_shift(logits, torch.tensor([0] * 48 + [1] * 2), rare=[1])
        [0.0, 2.5]

    A model that saw few rows of a label hardly ever answers it (Menon et al. 2021). Each shift is
    midway between two rows of the slice, and of equally good ones in the middle. The list is empty
    where nothing is gained, or with fewer than 50 rows.

    Args:
        logits: of rows that nothing was trained on [rows, labels].
        labels: class indices [rows].
        rare: of these labels, in this order.
    """
    if len(labels) < FEWEST:
        return []
    shift = torch.zeros(logits.shape[1])
    true, classes = labels.numpy(), logits.shape[1]
    for label in [label for label in rare if label in true]:
        shifted = logits + shift
        without = shifted.index_fill(1, torch.tensor(label), -math.inf)
        lead, second = without.max(1)  # over the label
        needed = (lead - shifted[:, label]).unique()  # in rising order
        tried = torch.cat([torch.zeros(1), ((needed[1:] + needed[:-1]) / 2).clamp(min=0)]).unique()
        scores = []
        for more in tried:
            is_given = shifted[:, label] + more > lead
            given = second.masked_fill(is_given, label).numpy()
            scores.append(score("f1_macro", given, true, classes))
        if max(scores) > scores[0]:  # of no shift
            equals = np.flatnonzero(np.array(scores) == max(scores))
            shift[label] += tried[equals[len(equals) // 2]]
    return shift.tolist() if shift.any() else []


def majority_scores(spec: TaskConfig, labels: Sequence[Any]) -> dict[str, float]:
    """Scores of always predicting the most frequent of the labels, keyed by metric.

    Example: of the labels 0, 1, 1, 1 it has accuracy 0.75 and F1 0.857.
    """
    true = torch.tensor(labels)
    if spec.multilabel:
        answers = torch.full(true.shape, -1.0)
        answers[:, true.sum(0).argmax()] = 1.0
    else:
        answers = torch.full(true.shape, Counter(labels).most_common(1)[0][0])
    found = build_metrics(spec, 0.0)(answers, true)
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
        labels: class indices [rows], or 0/1 [rows, labels].
    """
    rows, outcome = len(labels), outcome_of(labels)
    if rows < FEWEST:
        return 1.0
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        softened = logits / math.exp(log_temperature)
        return outcome.loss(softened, labels, smoothing=1 / (rows + 1)).item() / rows

    bounds = math.log(COLDEST), math.log(HOTTEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return round(math.exp(found.x), 4)


def calibration_error(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """Expected calibration error in 15 bins of equal width, as a fraction.

    Example: 0.03 where answers are on average 3 points less often right than they claim.

    Args:
        logits: [rows, labels].
        labels: class indices [rows], or 0/1 [rows, labels].
    """
    return float(outcome_of(labels).calibration_error(logits / temperature, labels))
