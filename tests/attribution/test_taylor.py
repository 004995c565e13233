"""Exact values by hand, and autograd's own gradients of the weights as a reference."""

import pytest
import torch

from skip_exp.attribution import taylor
from skip_exp.attribution.observe import true_label
from skip_exp.models.families.base import AttentionBlock
from skip_exp.models.soft_prompt import SoftPromptModel
from tests.helpers.tiny import READOUT, tiny_batch, tiny_model

pytestmark = pytest.mark.core


def changes_of(model: SoftPromptModel) -> dict[str, torch.Tensor]:
    """(w * dL/dw)^2 per neuron from the gradients that are in the model's weights now."""
    found = {}
    for block in model.blocks():
        if not isinstance(block, AttentionBlock):
            into = [(up.weight * up.weight.grad).square().sum(1) for up in block.up]
            into += [(u.bias * u.bias.grad).square() for u in block.up if u.bias is not None]
            out = (block.down.weight * block.down.weight.grad).square().sum(0)
            found[block.name] = sum(into) + out
            continue
        heads, rows = block.attention.heads, []
        for linear in block.attention.projections():
            change = (linear.weight * linear.weight.grad).square().sum(1)
            if linear.bias is not None:
                change = change + (linear.bias * linear.bias.grad).square()
            rows.append(change.view(heads, -1))
        out = (block.output.weight * block.output.weight.grad).square().sum(0).view(heads, -1)
        pairs = (heads, block.attention.qk_group, -1)
        found[f"{block.name}.qk"] = (rows[0] + rows[1]).view(pairs).sum(1)
        found[f"{block.name}.vo"] = rows[2] + out
        found[f"{block.name}.heads"] = (rows[0] + rows[1] + rows[2] + out).sum(1)
    return found


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_the_weights_own_gradients_give_the_same(kind: str) -> None:
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind, rows=3)
    ours = taylor.scores(model, [batch])
    model.backbone.requires_grad_(True)
    expected: dict[str, torch.Tensor] = {}
    for i in range(3):
        model.zero_grad()
        text = {name: x[i : i + 1] for name, x in batch.items()}
        (-true_label(model, text, "log_probability")).sum().backward()
        for site, change in changes_of(model).items():
            expected[site] = expected.get(site, 0) + change.detach() / 3
    assert ours.keys() == expected.keys()
    for site, scores in expected.items():
        torch.testing.assert_close(ours[site], scores, atol=1e-8, rtol=1e-3)
