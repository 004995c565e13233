"""A linear readout starts as a probe: logistic regression on what the untuned model shows it.

Kumar et al. (2022, "LP-FT") train the head before the rest: a random head moves features away from
where they were good. With few rows that decides: 300 steps do not teach 77 classes to a new head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRENGTH = 1.0  # C of the logistic regression
STEPS = 100  # of L-BFGS at most


def fit_linear(linear: nn.Linear, inputs: Tensor, labels: Tensor) -> None:
    """Fit ``linear`` in place: regularized logistic regression, by up to ``STEPS`` steps.

    It minimizes ``sum of cross-entropies + |weight|^2 / (2 C)``, as scikit-learn does. A class
    without rows ends with a bias far below the others.

    Args:
        inputs: its inputs [rows, H].
        labels: class indices [rows].
    """
    trained = [p for p in linear.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(
        trained, max_iter=STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )
    inputs, labels = inputs.to(linear.weight), labels.to(linear.weight.device)

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = F.cross_entropy(linear(inputs), labels, reduction="sum")
        mean = (total + linear.weight.square().sum() / (2 * STRENGTH)) / len(labels)
        mean.backward()
        return mean

    with torch.no_grad():  # far from 0 the line search is slow
        for parameter in trained:
            parameter.zero_()
    with torch.enable_grad():
        optimizer.step(loss)
