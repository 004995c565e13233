"""The epoch that is kept, and what choosing one is worth."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skip_exp.callbacks.keep_best import KeepBest, crossfit
from tests.helpers.tiny import tiny_model


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ([(0.7, 0.6)], 0.65),  # nothing to choose from: the mean
        # The first half likes epoch 1, the second epoch 2: (0.5 + 0.6) / 2. On the whole both have
        # 0.7, which is luck: neither half confirms what the other one likes.
        ([(0.5, 0.5), (0.9, 0.5), (0.6, 0.8)], 0.55),
        ([(0.5, 0.5), (0.8, 0.7), (0.6, 0.6)], 0.75),  # both like the same: its mean, no luck
        # Two epochs tie on the first half: (0.4 + 0.8) / 2 there; the second one likes the last.
        ([(0.9, 0.4), (0.9, 0.8)], (0.6 + 0.9) / 2),
    ],
)
def test_what_one_half_chooses_is_judged_on_the_other(
    halves: list[tuple[float, float]], expected: float
) -> None:
    assert crossfit(halves) == pytest.approx(expected)
    assert crossfit([(b, a) for a, b in halves]) == pytest.approx(expected)  # neither comes first


def test_noise_alone_is_no_gain() -> None:
    """All epochs are worth 0.8; the best of ten noisy scores is not."""
    scores = 0.8 + 0.02 * torch.randn(2000, 10, 2, generator=torch.Generator().manual_seed(0))
    estimates = torch.tensor([crossfit(fit.tolist()) for fit in scores])
    assert float(scores.mean(-1).max(-1).values.mean()) > 0.82
    # A quarter of a point: eight standard errors of the mean over the fits.
    assert float(estimates.mean()) == pytest.approx(0.8, abs=0.0025)


def test_the_kept_epoch_is_chosen_on_the_whole_slice() -> None:
    module: Any = SimpleNamespace(model=tiny_model("bert", "prefix", "head", labels=2))
    best = KeepBest("tune", "f1")
    whole, both = [0.5, 0.8, 0.7], [(0.5, 0.5), (0.7, 0.9), (0.8, 0.6)]
    for epoch, (score, halves) in enumerate(zip(whole, both, strict=True)):
        metrics = {"tune/select_f1": score, "tune/select_loss": 1.0}
        metrics |= {"half0/f1": halves[0], "half1/f1": halves[1]}
        tensors = {name: torch.tensor(value) for name, value in metrics.items()}
        trainer: Any = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            callback_metrics=tensors,
            sanity_checking=epoch == 0,
            current_epoch=epoch - 1,
        )
        best.on_validation_end(trainer, module)
    assert best.epoch == 0  # the first after the start
    assert best.crossfit == pytest.approx((0.6 + 0.7) / 2)
