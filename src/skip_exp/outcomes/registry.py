"""The kinds of labels, and the temperature that makes the probabilities of any kind honest."""

import math
from itertools import chain
from typing import TYPE_CHECKING

from skip_exp.outcomes.many_labels import ManyLabels
from skip_exp.outcomes.one_label import OneLabel
from skip_exp.outcomes.scores import FEWEST

if TYPE_CHECKING:
    from torch import Tensor

Outcome = OneLabel | ManyLabels
OUTCOMES: dict[str, Outcome] = {"one_label": OneLabel(), "many_labels": ManyLabels()}  # `task.kind`
METRICS = tuple(dict.fromkeys(chain.from_iterable(kind.metrics for kind in OUTCOMES.values())))
COLDEST = 0.05
HOTTEST = 20.0


def fit_temperature(outcome: Outcome, logits: "Tensor", labels: "Tensor") -> float:
    """The temperature by which logits are divided so that probabilities are calibrated.

    Example:
        >>> logits, labels = torch.tensor([[4.0, 0.0]] * 60), torch.tensor([0] * 45 + [1] * 15)
        >>> fit_temperature(OneLabel(), logits, labels)
        3.7145

    Minimizes the negative log-likelihood (Guo et al. 2017). One more row, whose labels are all
    equally likely, keeps it finite where every answer is right (Platt 1999). With fewer than 50
    rows it is 1.

    Args:
        logits: of rows that nothing was trained on [rows, labels].
        labels: as in the outcome.
    """
    from scipy.optimize import minimize_scalar  # not to read labels

    rows = len(labels)
    if rows < FEWEST:
        return 1.0
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        softened = logits / math.exp(log_temperature)
        return outcome.loss(softened, labels, smoothing=1 / (rows + 1)).item() / rows

    bounds = math.log(COLDEST), math.log(HOTTEST)
    optimum = minimize_scalar(loss, bounds=bounds, method="bounded")
    return round(math.exp(optimum.x), 4)
