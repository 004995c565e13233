"""Calibration: is a model right as often as it says?"""

import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

BINS = 10


def error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error in BINS bins of equal width (Guo et al. 2017, eq. 3).

    Example:
        >>> error(torch.tensor([[0.8, 0.2], [0.2, 0.8]]), torch.tensor([0, 0]))  # right in half
        0.3...

    Args:
        probabilities: [rows, labels].
        labels: class indices [rows].
    """
    n = probabilities.shape[1]
    return float(multiclass_calibration_error(probabilities, labels, n, BINS, "l1"))


def reliability(probabilities: Tensor, labels: Tensor) -> pd.DataFrame:
    """The reliability diagram: per bin ``confidence``, ``accuracy`` and ``rows``.

    Bins without rows are left out.
    """
    confidence, predicted = probabilities.max(-1)
    bins = (confidence * BINS).long()
    right = (predicted == labels).float()
    rows = pd.DataFrame(
        {"bin": bins.tolist(), "confidence": confidence.tolist(), "accuracy": right.tolist()}
    )
    found = rows.groupby("bin").agg(
        confidence=("confidence", "mean"), accuracy=("accuracy", "mean"), rows=("bin", "size")
    )
    return found.reset_index()


def probabilities(logits: Tensor) -> Tensor:
    """Of logits [rows, labels]; certainty is a little less, else it had a bin of its own."""
    return torch.softmax(logits.double(), -1).float().clamp(max=1 - 1e-6)
