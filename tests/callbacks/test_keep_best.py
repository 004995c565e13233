"""The epoch that a fit keeps, and the one that ends it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skip_exp.callbacks.keep_best import KeepBest, Patience
from tests.helpers.tiny import tiny_model


@pytest.mark.parametrize(
    ("scores", "losses", "kept"),
    [
        ([0.5, 0.8, 0.7], [1.0, 1.0, 1.0], 0),
        ([0.8, 0.8, 0.8], [1.0, 0.8, 0.9], 0),  # ties go to the lower loss
        ([0.8, 0.8, 0.7], [1.0, 1.0, 0.5], -1),  # the state before training competes
    ],
)
def test_the_best_epoch_is_kept(scores: list[float], losses: list[float], kept: int) -> None:
    best = KeepBest("tune", "f1")
    assert not any(stops(best, scores, losses))
    assert best.epoch == kept


@pytest.mark.parametrize(
    ("phase", "scores", "kept"),
    [
        ("tune", [0.6, 0.8, 0.8, 0.8], 2),  # the loss rises, but a small slice cannot tell
        ("tune", [0.8, 0.8, 0.5, 0.65], 2),  # two standard errors of 0.8 on 16 rows are 0.2
        ("tune", [0.6, 0.8, 0.55, 0.58], 0),
        ("retune", [0.75, 0.8, 0.72, 0.7], 0),  # never below the start
    ],
)
def test_of_a_small_slice_the_last_epoch_that_is_as_good_is_kept(
    phase: str, scores: list[float], kept: int
) -> None:
    best = KeepBest(phase, "f1", rows=16)
    stops(best, scores, [1.0, 1.1, 1.2, 1.3])
    assert best.epoch == kept


@pytest.mark.parametrize(
    ("scores", "losses", "last"),
    [
        ([0.1, 0.8, 0.7, 0.7, 0.7], [1.0, 1.0, 0.9, 0.8, 0.7], 3),
        ([0.1, 0.8, 0.8, 0.8, 0.8], [1.0, 1.0, 0.9, 0.8, 0.7], None),  # tied, but the loss falls
        ([0.1, 0.8, 0.8, 0.8, 0.8], [1.0, 1.0, 1.0, 1.1, 0.7], 3),
        ([0.9, 0.7, 0.8, 0.6, 0.8], [1.0, 1.0, 1.0, 1.0, 0.9], None),  # the start does not count
    ],
)
def test_a_fit_ends_after_two_epochs_that_are_no_better(
    scores: list[float], losses: list[float], last: int | None
) -> None:
    ended = stops(Patience("tune", "f1", 2), scores, losses)
    assert (ended.index(True) if any(ended) else None) == last


def stops(callback: Any, scores: list[float], losses: list[float]) -> list[bool]:
    """Whether the callback ends the fit, after the state before training and after each epoch."""
    module: Any = SimpleNamespace(model=tiny_model("bert", "prefix", "head", labels=2))
    ended = []
    for epoch, (score, loss) in enumerate(zip(scores, losses, strict=True)):
        found = {"select_f1": torch.tensor(score), "select_loss": torch.tensor(loss)}
        metrics = {f"{callback.phase}/{name}": value for name, value in found.items()}
        trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            callback_metrics=metrics,
            sanity_checking=epoch == 0,
            current_epoch=epoch - 1,
            should_stop=False,
        )
        callback.on_validation_end(trainer, module)
        ended.append(trainer.should_stop)
    return ended
