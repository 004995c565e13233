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
    FEWEST,
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
                why = "rows of several labels need task.kind=many_labels"
                raise ValueError(f"label {shown(cells[column])}: {why}")
            return index.read(cells[column], column)

        return read

    def split(self, cell: Any) -> list[Any]:
        """The names in a cell, where the classes are not known yet."""
        return [cell]

    def choose_metrics(self, labels: Sequence[int]) -> list[str]:
        """Metrics for a task with these labels, the main one first: accuracy misses a rare class.

        Example: ``["f1_macro", "accuracy"]`` where one of twenty rows has label 1.
        """
        return ["f1_macro", "accuracy"] if find_rare(labels) else ["accuracy", "f1_macro"]

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
        import torch.nn.functional as F  # the same

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
        answers, classes = logits.argmax(1), logits.shape[1]
        return {name: score(name, answers, labels, classes) for name in metrics}

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

    def find_shift(
        self, metric: str, logits: Floats, labels: Labels, of_train: Sequence[int]
    ) -> list[float]:
        """What to add to the logits of rare labels [labels], so that F1 macro is highest.

        Example:
            >>> logits = np.array([[4.0, 0.0]] * 48 + [[2.0, 1.0]] * 2)
            >>> labels = np.array([0] * 48 + [1] * 2)
            >>> OneLabel().find_shift("f1_macro", logits, labels, [0] * 95 + [1] * 5)
            [0.0, 2.5]

        A model that saw few rows of a label hardly ever answers it (Menon et al. 2021). Each shift
        is midway between two rows of the slice, and of equally good ones in the middle. The list is
        empty where nothing is gained, with fewer than 50 rows, or for another main metric.

        Args:
            metric: the task's main one.
            logits: of rows that nothing was trained on [rows, labels].
            of_train: labels of the train rows, which say what is rare.
        """
        if metric != "f1_macro" or len(labels) < FEWEST:
            return []
        classes = logits.shape[1]
        shift = np.zeros(classes, logits.dtype)
        for label in [label for label in find_rare(of_train) if label in labels]:
            shifted = logits + shift
            others = shifted.copy()
            others[:, label] = -np.inf
            lead, second = others.max(1), others.argmax(1)  # over the label
            needed = np.unique(lead - shifted[:, label])
            middles = (needed[1:] + needed[:-1]) / 2
            tried = np.unique([0.0, *middles.clip(min=0)]).astype(logits.dtype)
            scores = []
            for more in tried:
                given = np.where(shifted[:, label] + more > lead, label, second)
                scores.append(score("f1_macro", given, labels, classes))
            if max(scores) > scores[0]:  # of no shift
                equals = np.flatnonzero(np.array(scores) == max(scores))
                shift[label] += tried[equals[len(equals) // 2]]
        return shift.tolist() if shift.any() else []

    def name(self, label: int, names: Sequence[str]) -> str:
        """The label as a cell has it."""
        return names[label]

    def rate_mistakes(self, probabilities: Floats, given: Labels, labels: Labels) -> Floats:
        """The probability of every wrong answer [rows]; -1 where it is right."""
        return np.where(given == labels, -1, probabilities.max(1))

    def tabulate(
        self, labels: Sequence[int], probabilities: Floats, threshold: float | None
    ) -> dict[str, list[Any]]:
        """The columns of a file of predictions, labels as their indices."""
        return {
            "label": [*labels],
            "predicted": probabilities.argmax(1).tolist(),
            "probability": probabilities.max(1).tolist(),
        }


def find_rare(labels: Sequence[int]) -> list[int]:
    """The labels of less than a tenth of the rows and, of many, of less than half an even share.

    Example:
        >>> find_rare([0] * 19 + [1])
        [1]
    """
    counts = Counter(labels)
    return sorted(
        label
        for label, count in counts.items()
        if count < _RARE * len(labels) and 2 * count * len(counts) < len(labels)
    )
