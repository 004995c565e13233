"""The cut model is really smaller, shares what is untouched, and leaves the dense one alone."""

import pytest
import torch
from torch import nn

from skip_exp.models.surgery import cut, narrow_in, narrow_out
from tests.helpers.tiny import tiny_inputs, tiny_model

pytestmark = pytest.mark.core

KEEP = {
    "encoder.0.ffn": torch.tensor([0, 3, 5]),
    "encoder.1.ffn": torch.tensor([], dtype=torch.long),
    "encoder.0.self.heads": torch.tensor([2]),
    "encoder.1.self.heads": torch.tensor([], dtype=torch.long),
}


def test_narrowing_by_hand() -> None:
    linear = nn.Linear(2, 3)
    linear.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    linear.bias.data = torch.tensor([7.0, 8.0, 9.0])
    narrow_out(linear, torch.tensor([0, 2]))
    assert linear.weight.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert linear.bias.tolist() == [7.0, 9.0]
    narrow_in(linear, torch.tensor([1]))
    assert linear.weight.tolist() == [[2.0], [6.0]]
    assert (linear.in_features, linear.out_features) == (1, 2)


def test_weights_are_gone_and_the_rest_is_shared() -> None:
    dense = tiny_model()
    before = {name: p.clone() for name, p in dense.named_parameters()}
    smaller = cut(dense, KEEP)
    blocks = {b.name: b for b in smaller.blocks()}
    assert blocks["encoder.0.ffn"].output.weight.shape == (24, 3)
    assert blocks["encoder.1.ffn"].inner[0].weight.shape == (0, 24)
    attention = blocks["encoder.0.self"]
    assert attention.inner[0].weight.shape == (8, 24)
    assert attention.output.weight.shape == (24, 8)
    assert smaller.prompt.keys[0].shape == (4, 1, 8)
    assert smaller.prompt.keys[1].shape == (4, 0, 8)
    words = [m.backbone.get_input_embeddings().weight for m in (dense, smaller)]
    assert words[0] is words[1]
    with torch.no_grad():  # as training would
        for parameter in smaller.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    assert all(torch.equal(before[n], p) for n, p in dense.named_parameters())


def test_cutting_twice_is_cutting_once() -> None:
    """T5 slices its position bias by the original heads, also after a second cut."""
    dense = tiny_model("t5", readout="seq2seq")
    batch = tiny_inputs("t5")
    twice = cut(
        cut(dense, {"encoder.0.self.heads": torch.tensor([0, 2])}),
        {"encoder.0.self.heads": torch.tensor([1])},
    )
    once = cut(dense, {"encoder.0.self.heads": torch.tensor([2])})
    assert torch.equal(twice(**batch), once(**batch))
