"""Exact values by hand, and masks that autograd differentiates as a reference."""

import pytest
import torch
from torch import Tensor

from skip_exp.attribution import fisher
from skip_exp.attribution.observe import taps, true_label
from tests.helpers.hand import BATCH, S, TwoUnits, texts
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model

pytestmark = pytest.mark.core


def test_by_hand() -> None:
    """h sums to 4 and 8 over the positions; dL/dh = (1 - S) (1, -1)."""
    found = fisher.scores(TwoUnits(), [BATCH])  # type: ignore[arg-type]
    expected = [16 * (1 - S) ** 2, 64 * (1 - S) ** 2]
    assert found["encoder.0.ffn"].tolist() == pytest.approx(expected, rel=1e-4)


def test_squared_for_each_text() -> None:
    """Two texts whose gradients would cancel out: the labels differ, P is 1/2."""
    both = texts([1, -1, 2], [1, -1, 2], labels=[0, 1])
    model = TwoUnits()
    model.down.weight.data = torch.ones(2, 2)
    model.down.weight.data[0] = 0.0  # logits 0 and 3 x: P(1) = sigmoid(6)
    found = fisher.scores(model, [both])  # type: ignore[arg-type]
    p = float(torch.sigmoid(torch.tensor(6.0)))
    mean = (p**2 + (1 - p) ** 2) / 2
    assert found["encoder.0.ffn"].tolist() == pytest.approx([4 * mean, 16 * mean], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_real_masks_give_the_same(kind: str) -> None:
    """One mask at a time on what a cut removes (as in tests/models/test_exactness.py)."""
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, "prefix", readout, decoder=True), tiny_batch(kind, rows=3)
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
    factor = mask[:, None] if of_heads else mask

    handle = tap.hook(lambda x: (tap.view(x) * factor).view(x.shape))
    try:
        loss = -true_label(model, text, "log_probability").sum()
    finally:
        handle.remove()
    return torch.autograd.grad(loss, mask)[0]
