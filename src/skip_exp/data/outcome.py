"""What a model says of a text: one label of several, or any number of them.

All that differs between the two is here and in the functions that ask :func:`outcome_of`.
"""

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from skip_exp.data.batches import UNLABELLED

TEMPERATURE = 2.0  # softens the logits of teacher and student
BINS = 15  # of the expected calibration error


class OneLabel:
    """One label per text: probabilities sum to one. Labels are class indices [B]."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every label [B, labels]."""
        return logits.softmax(-1)

    def answers(self, logits: Tensor) -> Tensor:
        """What the metrics of :func:`skip_exp.data.metrics.build_metrics` take: indices [B]."""
        return logits.argmax(-1)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The sum over the texts of the cross-entropy. Texts without a label count as 0.

        Args:
            smoothing: share of the truth that is spread over all labels.
        """
        return F.cross_entropy(
            logits,
            labels,
            ignore_index=UNLABELLED,
            reduction="sum",
            label_smoothing=smoothing,
        )

    def soft_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Distillation loss T^2 * KL(teacher/T || logits/T), mean over the batch (Hinton 2015).

        Both arguments are logits [B, labels]. The factor T^2 keeps the gradient on the scale of
        the hard-label gradient for any temperature.
        """
        student_log_p, teacher_log_p = (
            F.log_softmax(x / TEMPERATURE, -1) for x in (logits, teacher)
        )
        return TEMPERATURE**2 * F.kl_div(
            student_log_p, teacher_log_p, log_target=True, reduction="batchmean"
        )

    def calibration_error(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Expected calibration error of the likeliest label, in bins of equal width."""
        probabilities = self.probabilities(logits)
        return multiclass_calibration_error(probabilities, labels, logits.shape[1], n_bins=BINS)


class ManyLabels:
    """Any number of labels per text, a probability each. Labels are 0 or 1 [B, labels]."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every label [B, labels]."""
        return logits.sigmoid()

    def answers(self, logits: Tensor) -> Tensor:
        """What the metrics of :func:`skip_exp.data.metrics.build_metrics` take: the logits."""
        return logits

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """The sum over texts and labels of the binary cross-entropy, as in :class:`OneLabel`."""
        truth = labels.clamp(min=0).to(logits.dtype).lerp(logits.new_tensor(0.5), smoothing)
        return F.binary_cross_entropy_with_logits(
            logits, truth, (labels != UNLABELLED).to(logits.dtype), reduction="sum"
        )

    def soft_loss(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """As in :class:`OneLabel`, for each label: cross-entropy, mean over texts and labels."""
        wanted = (teacher / TEMPERATURE).sigmoid()
        return TEMPERATURE**2 * F.binary_cross_entropy_with_logits(logits / TEMPERATURE, wanted)

    def calibration_error(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Expected calibration error of all labels of all texts alike."""
        return binary_calibration_error(
            self.probabilities(logits).flatten(), labels.flatten(), n_bins=BINS
        )


Outcome = OneLabel | ManyLabels


def outcome_of(labels: Tensor) -> Outcome:
    """The outcome that labels are of: class indices [B], or 0 and 1 [B, labels]."""
    return ManyLabels() if labels.dim() == 2 else OneLabel()


def outcome_named(multilabel: bool) -> Outcome:
    """The outcome of a task or a skill, by its key ``multilabel``."""
    return ManyLabels() if multilabel else OneLabel()
