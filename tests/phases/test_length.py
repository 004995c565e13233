"""The number of epochs."""

from collections.abc import Sequence

import pytest

from skip_exp.config.groups import RetuneConfig, TuneConfig
from skip_exp.phases.fit import FIXED, count_epochs, count_paid_epochs, is_improving


def of_cost(cost: float) -> float:
    """FLOPs that make an epoch cost so much, as fractions of the dense model's."""
    return (cost - FIXED) / (1 - FIXED)


@pytest.mark.parametrize(
    ("settings", "rows", "epochs"),
    [
        *((TuneConfig(), 10_000, 8), (TuneConfig(), 1216, 8)),
        *((TuneConfig(), 1184, 9), (TuneConfig(), 10, 300)),  # 300 steps of 32 texts
        *((RetuneConfig(), 100_000, 3), (RetuneConfig(), 640, 10)),  # 200 steps
        (TuneConfig(epochs=2, min_steps=0), 10, 2),
        (TuneConfig(epochs=2, min_steps=9, batch=4), 10, 3),
    ],
)
def test_few_rows_get_more_epochs(settings: TuneConfig, rows: int, epochs: int) -> None:
    assert count_epochs(settings, rows) == epochs


@pytest.mark.parametrize(
    ("budget", "operations", "epochs"),
    [
        (0.9, of_cost(1.0), 3),  # a dense fit costs three times the budget and still runs once
        *((0.9, of_cost(1 - 0.8), 3), (0.9, of_cost(1 - 0.85), 6)),
        (0.9, of_cost(1 - 0.9), 9),  # exactly, though 1 - 0.9 is slightly less than 0.1
        (0.0, of_cost(0.1), 3),
        # The fixed cost counts in every epoch: without it, 0.99 would get 198 epochs.
        *((2.0, 1.0, 3), (2.0, 0.2, 6), (2.0, 0.1, 15), (2.0, 0.01, 48)),
    ],
)
def test_a_cheaper_model_gets_more_epochs_within_the_budget(
    budget: float, operations: float, epochs: int
) -> None:
    assert count_paid_epochs(RetuneConfig(budget=budget), operations) == epochs


@pytest.mark.parametrize(
    ("scores", "error", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.8], 0.05, True),
        ([0.5, 0.6, 0.7, 0.8], 0.15, False),  # within the standard error
        ([0.5, 0.8, 0.7, 0.8], 0.0, False),
        ([0.2, 0.4, 0.5, 0.6, 0.7, 0.6, 0.9, 0.6], 0.1, True),  # any of the last quarter
        ([0.9, 1.0, 1.0, 1.0], 0.0, False),  # nothing is left to gain
        ([0.5], 0.0, False),  # nothing to compare with
    ],
)
def test_what_ends_while_it_still_improves(
    scores: Sequence[float], error: float, expected: bool
) -> None:
    assert is_improving(scores, error) is expected
