"""A classifier that can be scored: what a skill and an ONNX export have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skip_exp.skill.classifier import Classifier


@dataclass(frozen=True, repr=False, eq=False)
class Scored(Classifier):
    """A classifier with :meth:`evaluate`."""

    def evaluate(
        self,
        data: Any,
        labels: Sequence[Any] | None = None,
        *,
        label: str | None = None,
        drop_bad: bool = False,
    ) -> dict[str, Any]:
        """Score it on rows: {rows, metric: value, confusion: {true: {predicted: count}}}.

        Args:
            data: rows in the task's columns: a file, a data frame, a data set, a list of rows as
                dictionaries, or a list of texts or pairs with ``labels``.
            labels: one per text of a list.
            label: column of the labels; None: the one that the skill was trained on.
            drop_bad: leave out rows without a text or with an unknown label.

        Raises:
            SkipError: the rows do not fit the task.
        """
        # pandas and torchmetrics, which a skill that only predicts does not need.
        from skip_exp.skill import evaluate

        return evaluate.on_rows(self, data, labels, label, drop_bad)
