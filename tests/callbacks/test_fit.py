"""The epoch that a fit keeps."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skip_exp.callbacks.fit import KeepLast, standard_error
from tests.helpers.tiny import tiny_model


@pytest.mark.parametrize(
    ("phase", "metric", "scores", "kept"),
    [
        ("tune", "f1", [0.6, 0.8, 0.7, 0.65], 2),  # two standard errors of 0.8 on 16 rows are 0.2
        ("tune", "f1", [0.6, 0.8, 0.5, 0.65], 2),
        ("retune", "f1", [0.8, 0.8, 0.5, 0.65], 0),  # never below the start
        ("tune", "f1", [0.6, 0.8, 0.55, 0.58], 0),
        ("tune", "f1", [0.95, 0.6, 0.6, 0.6], -1),  # the state before training competes
        ("tune", "f1", [1.0, 0.9, 0.85, 0.9], 2),  # all right by luck is not all that counts
        ("retune", "f1", [0.75, 0.8, 0.72, 0.7], 0),  # never below the start
        ("tune", "matthews", [0.0, 0.6, 0.25, 0.15], 1),  # from -1 on: two errors are 0.4
    ],
)
def test_the_last_epoch_that_is_as_good_is_kept(
    phase: str, metric: str, scores: list[float], kept: int
) -> None:
    last = KeepLast(phase, metric, rows=16)
    follow(last, scores)
    assert (last.epoch, last.score) == (kept, pytest.approx(scores[kept + 1]))


@pytest.mark.parametrize(
    ("score", "metric", "error"),
    [(0.8, "f1", 0.1), (1.0, "f1", 0.08268), (0.6, "matthews", 0.2)],
)
def test_the_standard_error_is_that_of_a_share(score: float, metric: str, error: float) -> None:
    assert standard_error(score, 16, metric) == pytest.approx(error, abs=1e-5)


def follow(callback: KeepLast, scores: list[float]) -> None:
    """Show the state before training and each epoch to ``callback``."""
    module: Any = SimpleNamespace(model=tiny_model("bert", "prefix", "head", labels=2))
    for epoch, score in enumerate(scores):
        name = f"{callback.phase}/select_{callback.metric}"
        trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            callback_metrics={name: torch.tensor(score)},
            sanity_checking=epoch == 0,
            current_epoch=epoch - 1,
        )
        callback.on_validation_end(trainer, module)
