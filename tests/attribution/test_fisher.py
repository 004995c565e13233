"""Exact values by hand, and masks that autograd differentiates as a reference."""

import pytest
import torch
from torch import Tensor

from skip_exp.attribution import fisher
from skip_exp.attribution.observe import taps, true_label
from tests.helpers.tiny import READOUT, tiny_batch, tiny_model

pytestmark = pytest.mark.core


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_gradients_of_real_masks_give_the_same(kind: str) -> None:
    """One mask at a time on what a cut removes (as in tests/models/test_exactness.py)."""
    model, batch = tiny_model(kind, "prefix", READOUT[kind], decoder=True), tiny_batch(kind, rows=3)
    ours = fisher.scores(model, [batch])
    for name, tap in taps(model).items():
        if name.endswith(".k"):
            continue
        for site in tap.sites:
            expected = 0
            for i in range(3):
                text = {n: x[i : i + 1] for n, x in batch.items()}
                expected = expected + mask_gradient(model, text, tap, ours[site].shape).square() / 3
            torch.testing.assert_close(ours[site], expected, atol=1e-8, rtol=1e-3)


def mask_gradient(model, text: dict[str, Tensor], tap, shape: torch.Size) -> Tensor:  # type: ignore[no-untyped-def]
    mask = torch.ones(shape, requires_grad=True)
    of_heads = len(shape) == 1 and tap.heads is not None
    factor = mask[:, None] if of_heads else mask.repeat(*[1] * (mask.dim() - 1), tap.group)

    handle = tap.hook(lambda x: (tap.view(x) * factor).view(x.shape))
    try:
        loss = -true_label(model, text, "log_probability").sum()
    finally:
        handle.remove()
    return torch.autograd.grad(loss, mask)[0]
