"""The number of epochs."""

from collections.abc import Sequence
from typing import Any

import pytest

from skip_exp.config.train import RetuneConfig, TrainConfig
from skip_exp.errors import ConfigError
from skip_exp.training.length import after_cut, cost_left, for_rows, is_improving


@pytest.mark.parametrize(
    ("budget", "cost", "epochs"),
    [
        (0.9, 1.0, 3),  # a dense fit costs three times the budget and still runs once
        (0.9, 1 - 0.8, 3),
        (0.9, 1 - 0.85, 6),
        (0.9, 1 - 0.9, 9),  # exactly, though 1 - 0.9 is slightly less than 0.1
        (0.0, 0.1, 3),
    ],
)
def test_epochs_are_multiplied(budget: float, cost: float, epochs: int) -> None:
    assert after_cut(RetuneConfig(budget=budget), cost).epochs == epochs


@pytest.mark.parametrize(("ratio", "epochs"), [(0.0, 3), (0.8, 6), (0.9, 15), (0.99, 48)])
def test_the_default_epochs_stay_within_the_budget(ratio: float, epochs: int) -> None:
    """The fixed cost counts in every epoch: without it, 0.99 would get 198 epochs."""
    assert after_cut(RetuneConfig(budget=2.0), cost_left(1 - ratio)).epochs == epochs


@pytest.mark.parametrize(
    ("train", "rows", "epochs"),
    [
        *(("lora", 10_000, 6), ("lora", 320, 6), ("lora", 288, 7), ("lora", 10, 60)),
        *(("full", 10_000, 6), ("full", 10, 60)),
        *(("prompt_readout", 10_000, 8), ("prompt_readout", 1_180, 9)),
    ],
)
def test_few_rows_get_more_epochs(train: str, rows: int, epochs: int) -> None:
    """At least 60 or 300 steps of 32 texts."""
    assert for_rows(TrainConfig(train=train), rows).epochs == epochs


def test_a_given_number_of_epochs_is_that_number() -> None:
    assert for_rows(given := TrainConfig(epochs=2), 10) == given
    assert after_cut(given := RetuneConfig(epochs=2), 0.1) == given
    usual = RetuneConfig(budget=2.0)
    assert for_rows(usual, 100_000).epochs == after_cut(usual, 1.0).epochs == 3


@pytest.mark.parametrize(
    ("scores", "losses", "expected"),
    [
        ([0.5, 0.6, 0.7, 0.8], [1.0, 0.8, 0.6, 0.599], True),  # the last epoch is the best
        ([0.5, 0.8, 0.8, 0.8], [1.0, 0.9, 0.8, 0.7], True),  # the score is tied, the loss falls
        ([0.5, 0.8, 0.7, 0.8], [1.0, 0.6, 0.6, 0.599], False),
        ([0.5, 0.8, 0.7, 0.9], [1.0, 0.6, 0.5, 0.51], False),
        ([0.5], [1.0], False),  # nothing to compare with
    ],
)
def test_what_ends_while_it_still_improves(
    scores: Sequence[float], losses: Sequence[float], expected: bool
) -> None:
    curves: list[dict[str, Any]] = [
        {"select_f1": score, "select_loss": loss}
        for score, loss in zip(scores, losses, strict=True)
    ]
    assert is_improving(curves, "f1") is expected


@pytest.mark.parametrize("budget", [-0.1, float("inf"), float("nan")])
def test_a_budget_is_a_number_of_epochs(budget: float) -> None:
    with pytest.raises(ConfigError, match=r"^retune\.budget="):
        RetuneConfig(budget=budget)


def test_the_cost_of_an_epoch_after_pruning() -> None:
    assert [cost_left(left) for left in (1.0, 0.1, 0.0)] == pytest.approx([1.0, 0.127, 0.03])
