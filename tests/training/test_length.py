"""The number of re-tuning epochs."""

import pytest

from skip_exp.config.schema import RetuneConfig
from skip_exp.errors import ConfigError
from skip_exp.training.length import after_cut, cost_left


@pytest.mark.parametrize(
    ("epochs", "budget", "cost", "times"),
    [
        (3, 0.9, 1.0, 1),  # a dense fit costs three times the budget and still runs once
        (3, 0.9, 1 - 0.8, 1),
        (3, 0.9, 1 - 0.85, 2),
        (3, 0.9, 1 - 0.9, 3),  # exactly, though 1 - 0.9 is slightly less than 0.1
        (8, 0.9, 1 - 0.9, 1),
        (3, 0.0, 0.1, 1),
    ],
)
def test_epochs_and_patience_are_multiplied(
    epochs: int, budget: float, cost: float, times: int
) -> None:
    longer = after_cut(RetuneConfig(epochs=epochs, patience=2, budget=budget), cost)
    assert (longer.epochs, longer.patience) == (times * epochs, times * 2)


@pytest.mark.parametrize(("ratio", "epochs"), [(0.0, 3), (0.8, 3), (0.9, 9), (0.99, 30)])
def test_the_default_epochs_stay_within_the_budget(ratio: float, epochs: int) -> None:
    """The fixed cost counts in every epoch: without it, 0.99 would get 90 epochs."""
    assert after_cut(RetuneConfig(), cost_left(1 - ratio)).epochs == epochs


@pytest.mark.parametrize("budget", [-0.1, float("inf"), float("nan")])
def test_a_budget_is_a_number_of_epochs(budget: float) -> None:
    with pytest.raises(ConfigError, match=r"^retune\.budget="):
        RetuneConfig(budget=budget)


def test_the_cost_of_an_epoch_after_pruning() -> None:
    assert [cost_left(left) for left in (1.0, 0.1, 0.0)] == pytest.approx([1.0, 0.127, 0.03])
