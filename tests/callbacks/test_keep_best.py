"""The epoch that a fit keeps."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skip_exp.callbacks.keep_best import KeepBest
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
    module: Any = SimpleNamespace(model=tiny_model("bert", "prefix", "head", labels=2))
    best = KeepBest("tune", "f1")
    for epoch, (score, loss) in enumerate(zip(scores, losses, strict=True)):
        metrics = {"tune/select_f1": torch.tensor(score), "tune/select_loss": torch.tensor(loss)}
        trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            callback_metrics=metrics,
            sanity_checking=epoch == 0,
            current_epoch=epoch - 1,
        )
        best.on_validation_end(trainer, module)
    assert best.epoch == kept
