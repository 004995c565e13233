import pytest

from skip_exp.config.schema import RetuneConfig
from skip_exp.errors import ConfigError
from skip_exp.training.length import after_cut, cost_left, times


@pytest.mark.parametrize(
    ("epochs", "budget", "left", "expected"),
    [
        (3, 0.9, 1.0, 1),  # dense: three times as much as the budget, and done once nevertheless
        (3, 0.9, 1 - 0.7, 1),
        (3, 0.9, 1 - 0.8, 1),
        (3, 0.9, 1 - 0.85, 2),
        (3, 0.9, 1 - 0.9, 3),
        (3, 0.9, 1 - 0.95, 6),
        (8, 0.9, 1 - 0.9, 1),
        (3, 0.9, 1 / 10, 3),
        (3, 0.0, 0.1, 1),
    ],
)
def test_as_many_times_over_as_fit(epochs: int, budget: float, left: float, expected: int) -> None:
    assert times(epochs, budget, left) == expected


def test_patience_grows_with_the_epochs() -> None:
    settings = RetuneConfig()
    assert (settings.epochs, settings.patience) == (3, 2)
    longer = after_cut(settings, cost_left(1 - 0.9))
    assert (longer.epochs, longer.patience) == (9, 6)
    assert after_cut(settings, 0.5) == settings


@pytest.mark.parametrize(
    ("ratio", "epochs"),
    [(0.0, 3), (0.52, 3), (0.7, 3), (0.8, 3), (0.85, 6), (0.9, 9), (0.95, 15), (0.99, 30)],
)
def test_the_default_epochs_stay_within_the_budget(ratio: float, epochs: int) -> None:
    """What no cut makes cheaper counts in every epoch: at 0.99 they were 90 without."""
    settings = RetuneConfig()
    cost = cost_left(1 - ratio)
    assert after_cut(settings, cost).epochs == epochs
    assert epochs * cost <= settings.budget or epochs == settings.epochs


@pytest.mark.parametrize("budget", [-0.1, float("inf"), float("nan")])
def test_a_budget_is_a_number_of_epochs(budget: float) -> None:
    with pytest.raises(ConfigError, match=r"^retune\.budget="):
        RetuneConfig(budget=budget)


def test_what_a_pass_costs_after_the_cut() -> None:
    assert cost_left(1.0) == 1.0
    assert cost_left(0.1) == pytest.approx(0.127)
    assert cost_left(0.0) == 0.03
