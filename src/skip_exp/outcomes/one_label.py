"""One label per text: the classes exclude each other, and their probabilities sum to one.

A label is the index of a class; in a tensor or an array [rows]. Imports no torch, since labels are
read and answers given without it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skip_exp.errors import shown
from skip_exp.outcomes.labels import LabelIndex
from skip_exp.outcomes.scores import (
    TEMPERATURE,
    UNLABELLED,
    Floats,
    Labels,
    calibration_error,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

_RARE = 0.1  # of the rows: accuracy hardly sees a label that has fewer


class OneLabel:
    """See :mod:`skip_exp.outcomes.one_label`.

    Attributes:
        is_exclusive: a text has exactly one label; some methods and readouts need that.
        metrics: that a task may have.
        problem_type: as transformers calls it.
    """

    is_exclusive = True
    metrics = ("accuracy", "f1", "f1_macro", "matthews")
    problem_type: Literal["single_label_classification"] = "single_label_classification"

    def reader(self, names: Sequence[str], column: str) -> Callable[[Mapping[str, Any]], int]:
        """A function from a row's cells to its label; it raises ValueError where there is none.

        Args:
            names: of the classes, in order.
            column: of the labels.
        """
        index = LabelIndex(names)

        def read(cells: Mapping[str, Any]) -> int:
            if isinstance(cells[column], list):
                raise ValueError(
                    f"label {shown(cells[column])}: rows of several labels need "
                    "task.kind=many_labels"
                )
            return index.read(cells[column], column)

        return read

    def split(self, cell: Any) -> list[Any]:
        """The names in a cell, where the classes are not known yet."""
        return [cell]

    def choose_metrics(self, labels: Sequence[int]) -> list[str]:
        """Metrics for a task with these labels, the main one first: accuracy misses a rare class.

        A class is rare in less than a tenth of the rows and, of many classes, in less than half an
        even share of them.

        Example: ``["f1_macro", "accuracy"]`` where one of twenty rows has label 1.
        """
        counts = Counter(labels).values()
        fewest = min(counts, default=0)
        is_rare = fewest < _RARE * len(labels) and 2 * fewest * len(counts) < len(labels)
        return ["f1_macro", "accuracy"] if is_rare else ["accuracy", "f1_macro"]

    def loss(self, logits: "Tensor", labels: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """The sum over the texts of the cross-entropy. Texts without a label count as 0.

        Args:
            logits: [B, labels].
            smoothing: share of the truth that is spread over all labels.
        """
        import torch.nn.functional as F  # not to read labels

        return F.cross_entropy(
            logits,
            labels,
            ignore_index=UNLABELLED,
            reduction="sum",
            label_smoothing=smoothing,
        )

    def soft_loss(self, logits: "Tensor", teacher: "Tensor") -> "Tensor":
        """Distillation loss T^2 * KL(teacher/T || logits/T), mean over the batch (Hinton 2015).

        Both arguments are logits [B, labels]. The factor T^2 keeps the gradient on the scale of
        the hard-label gradient for any temperature.
        """
        import torch.nn.functional as F

        student_log_p = F.log_softmax(logits / TEMPERATURE, -1)
        teacher_log_p = F.log_softmax(teacher / TEMPERATURE, -1)
        return TEMPERATURE**2 * F.kl_div(
            student_log_p, teacher_log_p, log_target=True, reduction="batchmean"
        )

    def probabilities(self, logits: Floats) -> Floats:
        """Of every label [rows, labels]."""
        odds = np.exp(logits - logits.max(-1, keepdims=True))
        return odds / odds.sum(-1, keepdims=True)

    def give(self, probabilities: Floats, threshold: float | None) -> Labels:
        """The label of every row [rows]."""
        return probabilities.argmax(-1)

    def answer(
        self, names: Sequence[str], row: Sequence[float], threshold: float | None, reject: float
    ) -> dict[str, Any]:
        """The answer to a text by the probability of each of ``names``: ``{"label": name}``.

        Args:
            threshold: has no meaning here.
            reject: the label is None where its probability is below this.
        """
        highest = max(row)
        return {"label": names[row.index(highest)] if highest >= reject else None}

    def score(
        self, metrics: Sequence[str], logits: Floats, labels: Labels, bound: float | None = None
    ) -> dict[str, float]:
        """{metric: value} of the answers to rows [rows, labels].

        ``f1`` is the binary F1 of label 1, ``f1_macro`` the mean over classes.

        Args:
            bound: has no meaning here.
        """
        answers = logits.argmax(1)
        return {name: score(name, answers, labels, logits.shape[1]) for name in metrics}

    def always(self, labels: Labels, classes: int) -> Floats:
        """Logits that answer every row by the most frequent of the labels [rows, classes]."""
        most, _ = Counter(labels.tolist()).most_common(1)[0]
        return np.eye(classes)[[most] * len(labels)]

    def calibration_error(self, logits: Floats, labels: Labels) -> float:
        """:func:`calibration_error` of the likeliest label."""
        probabilities = self.probabilities(logits)
        return calibration_error(probabilities.max(1), probabilities.argmax(1) == labels)

    def find_bound(self, logits: Floats, labels: Labels) -> float | None:
        """None: the likeliest label is given, whatever its logit."""
        return None

    def name(self, label: int, names: Sequence[str]) -> str:
        """The label as a cell has it."""
        return names[label]

    def rate_mistakes(self, probabilities: Floats, answers: Labels, labels: Labels) -> Floats:
        """The probability of every wrong answer [rows]; -1 where it is right."""
        return np.where(answers == labels, -1, probabilities.max(1))

    def tabulate(
        self, labels: Sequence[int], probabilities: Floats, threshold: float | None
    ) -> dict[str, list[Any]]:
        """The columns of a file of predictions, labels as their indices."""
        return {
            "label": list(labels),
            "predicted": probabilities.argmax(1).tolist(),
            "probability": probabilities.max(1).tolist(),
        }
