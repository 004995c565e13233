"""Any number of labels per text, with a probability each.

A label is a tuple of 0 and 1, one for each class; in a tensor or an array [rows, labels]. Where a
method has no words of its own, see :class:`skip_exp.outcomes.one_label.OneLabel`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skip_exp.errors import shown
from skip_exp.outcomes.labels import FLAGS, JOINTS, LabelIndex, label_text, split_labels
from skip_exp.outcomes.scores import (
    FEWEST,
    TEMPERATURE,
    UNLABELLED,
    Floats,
    Labels,
    calibration_error,
)

if TYPE_CHECKING:
    from torch import Tensor

Label = tuple[int, ...]


class ManyLabels:
    """See :mod:`skip_exp.outcomes.many_labels`."""

    is_exclusive = False
    metrics = ("f1_micro", "f1_macro", "average_precision")
    problem_type: Literal["multi_label_classification"] = "multi_label_classification"

    def reader(self, names: Sequence[str], column: str) -> Callable[[Mapping[str, Any]], Label]:
        """As in `OneLabel`.

        Args:
            column: of lists, or of names that are joined; empty: a column of 0 and 1 per class.
        """
        index = LabelIndex(names)

        def read(cells: Mapping[str, Any]) -> Label:
            flags = [0] * len(names)
            for label in split_labels(cells[column], index):
                flags[index.read(label, column)] = 1
            return tuple(flags)

        def read_flags(cells: Mapping[str, Any]) -> Label:
            flags = []
            for name in names:
                flag = FLAGS.get(label_text(cells[name]).lower())
                if flag is None:
                    raise ValueError(f"column {name!r} is {shown(cells[name])}, not 0 or 1")
                flags.append(flag)
            return tuple(flags)

        return read if column else read_flags

    def split(self, cell: Any) -> list[Any]:
        return split_labels(cell)

    def choose_metrics(self, labels: Sequence[Label]) -> list[str]:
        return list(self.metrics)

    def loss(self, logits: "Tensor", labels: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """The sum over texts and labels of the binary cross-entropy."""
        import torch.nn.functional as F  # not to read labels

        truth = labels.clamp(min=0).to(logits.dtype).lerp(logits.new_tensor(0.5), smoothing)
        return F.binary_cross_entropy_with_logits(
            logits, truth, (labels != UNLABELLED).to(logits.dtype), reduction="sum"
        )

    def soft_loss(self, logits: "Tensor", teacher: "Tensor") -> "Tensor":
        """Cross-entropy for each label, mean over texts and labels."""
        import torch.nn.functional as F

        wanted = (teacher / TEMPERATURE).sigmoid()
        return TEMPERATURE**2 * F.binary_cross_entropy_with_logits(logits / TEMPERATURE, wanted)

    def probabilities(self, logits: Floats) -> Floats:
        return np.exp(-np.logaddexp(0, -logits))  # the sigmoid, without overflow

    def give(self, probabilities: Floats, threshold: float | None) -> Labels:
        """0 or 1 of every label [rows, labels]: those above the threshold are given."""
        assert threshold is not None
        return (probabilities > threshold).astype(np.int64)

    def answer(
        self, names: Sequence[str], row: Sequence[float], threshold: float | None, reject: float
    ) -> dict[str, Any]:
        """``{"labels": names}``, those above the threshold, the likeliest first."""
        assert threshold is not None
        ranked = sorted(range(len(names)), key=lambda i: row[i], reverse=True)
        return {"labels": [names[i] for i in ranked if row[i] > threshold]}

    def score(
        self, metrics: Sequence[str], logits: Floats, labels: Labels, bound: float | None = None
    ) -> dict[str, float]:
        """``f1_micro`` counts the labels of all texts alike; ``average_precision`` needs no bound.

        It is the mean over the labels that any row has.

        Args:
            bound: the logit above which a label is given; None: the one that suits the rows best.
        """
        from sklearn.metrics import average_precision_score, f1_score  # takes a second

        logits = np.nan_to_num(logits)  # of a probability that rounds to 1, inf, which it refuses
        if bound is None:
            bound = self.find_bound(logits, labels)
        answers = logits > bound
        # Without a row that has the label, a precision is not defined.
        columns = np.flatnonzero(labels.any(0))
        precisions = [average_precision_score(labels[:, i], logits[:, i]) for i in columns]
        scores = {
            "f1_micro": f1_score(labels, answers, average="micro", zero_division=0),
            "f1_macro": f1_score(labels, answers, average="macro", zero_division=0),
            "average_precision": np.mean(precisions or [0.0]),
        }
        return {name: float(scores[name]) for name in metrics}

    def always(self, labels: Labels, classes: int) -> Floats:
        answers = np.full(labels.shape, -1.0)
        answers[:, labels.sum(0).argmax()] = 1.0
        return answers

    def calibration_error(self, logits: Floats, labels: Labels) -> float:
        """Of all labels of all texts alike."""
        return calibration_error(self.probabilities(logits).ravel(), labels.ravel())

    def find_bound(self, logits: Floats, labels: Labels) -> float:
        """The logit above which a label is given, so that the F1 of all labels alike is highest.

        Example:
            >>> logits, labels = np.array([[3.0, 1.0], [-3.0, -2.0]] * 25), [[1, 1], [0, 0]] * 25
            >>> ManyLabels().find_bound(logits, np.array(labels))
            -0.5

        It is midway to the next lower logit. With fewer than 50 rows it is 0: a probability of 0.5.

        Args:
            logits: of rows that nothing was trained on [rows, labels].
        """
        if len(labels) < FEWEST or not labels.any():
            return 0.0
        from sklearn.metrics import precision_recall_curve  # takes a second

        precision, recall, bounds = precision_recall_curve(labels.ravel(), logits.ravel())
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1[:-1].argmax())  # the last value has no bound: no label is given
        return float(bounds[max(best - 1, 0)] + bounds[best]) / 2

    def name(self, label: Sequence[int], names: Sequence[str]) -> str:
        return JOINTS[0].join(name for name, has in zip(names, label, strict=True) if has)

    def rate_mistakes(self, probabilities: Floats, answers: Labels, labels: Labels) -> Floats:
        """The probability of the most confident wrong yes or no; -1 where all are right."""
        certainty = np.where(answers == 1, probabilities, 1 - probabilities)
        return np.where(answers == labels, -1, certainty).max(1)

    def tabulate(
        self, labels: Sequence[Label], probabilities: Floats, threshold: float | None
    ) -> dict[str, list[Any]]:
        indices = [str(i) for i in range(probabilities.shape[1])]
        answers = self.give(probabilities, threshold).tolist()
        return {
            "label": [self.name(row, indices) for row in labels],
            "predicted": [self.name(row, indices) for row in answers],
        }
