"""Gates: applied and folded are the same function, a cut cuts them, copies have their own."""

import random

import pytest
import torch
from torch import nn

from skip_exp.attribution import fisher, magnitude, taylor
from skip_exp.models import trained
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import GatedLinear, load_trainable, train_only, trainable_state
from tests.helpers.tiny import KINDS, READOUT, tiny_inputs, tiny_model
from tests.models.test_exactness import case, random_keep

pytestmark = pytest.mark.core


def gated(model: SoftPromptModel, seed: int = 0) -> SoftPromptModel:
    """A copy with a gate on every neuron, as training would leave it."""
    own = model.copy()
    train_only(own, "gates")
    generator = torch.Generator().manual_seed(seed)
    state = trainable_state(own)
    for name, tensor in state.items():
        if name.endswith(".gate"):
            state[name] = 1 + torch.randn(tensor.shape, generator=generator) / 2
    load_trainable(own, state)
    return own


def folded(model: SoftPromptModel) -> SoftPromptModel:
    """A copy in which gates are a part of the weights."""
    plain = model.copy()
    trained.fold_updates(plain.backbone)
    assert not trained.list_updates(plain.backbone)
    return plain


def test_by_hand() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data, linear.bias.data = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([0.5, 0])
    layer = GatedLinear(linear)
    x, frozen = torch.tensor([[1.0, 10]]), linear.weight.detach().clone()
    assert layer(x).tolist() == [[21.5, 43]]
    layer.gate.data = torch.tensor([2.0, 0.5])
    layer.merge()
    assert layer.weight.tolist() == [[2, 1], [6, 2]]
    assert layer(x).tolist() == layer.plain()(x).tolist() == [[12.5, 26]]
    layer.unmerge()
    assert layer.weight.equal(frozen) and linear.weight.equal(frozen)
    assert layer(x).tolist() == [[12.5, 26]]
    layer(x).sum().backward()
    assert layer.gate.grad is not None
    assert layer.gate.grad.tolist() == [4, 60]  # (sum of W) x
    assert layer.weight.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_new_gates_change_nothing_and_stand_on_every_neuron(kind: str) -> None:
    dense, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_inputs(kind)
    expected = dense(**batch)
    own = dense.copy()
    train_only(own, "gates")
    assert torch.equal(own(**batch), expected)
    trained.unmerge_updates(own.backbone)
    assert torch.equal(own(**batch), expected)
    sizes = [len(gate) for gate in trained.list_gates(own.backbone)]
    assert sizes == [block.output.in_features for block in dense.blocks()]
    assert not trained.list_updates(dense.backbone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["input", "prefix"])
def test_folded_equals_applied(kind: str, prompt: str) -> None:
    dense, batch = tiny_model(kind, prompt, READOUT[kind]), tiny_inputs(kind)
    model = gated(dense)
    with torch.no_grad():
        expected = folded(model)(**batch)
        assert torch.equal(model(**batch), expected)
        trained.unmerge_updates(model.backbone)
        torch.testing.assert_close(model(**batch), expected, atol=1e-6, rtol=1e-6)
        assert (expected - dense(**batch)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_cuts_the_gates(kind: str) -> None:
    """cut(folded) == cut(gated), and what is left still is frozen weight times gate."""
    for seed in range(2):
        dense, batch, keep = case(kind, seed)
        del batch["labels"]
        model = gated(dense, seed)
        smaller = cut(model, keep)
        with torch.no_grad():
            expected = cut(folded(model), keep)(**batch)
            torch.testing.assert_close(smaller(**batch), expected, atol=1e-6, rtol=1e-5)
            trained.unmerge_updates(smaller.backbone)
            torch.testing.assert_close(smaller(**batch), expected, atol=1e-6, rtol=1e-5)
            trained.merge_updates(smaller.backbone)
        for plain, block in zip(cut(dense, keep).blocks(), smaller.blocks(), strict=True):
            frozen, output = plain.output, block.output
            assert isinstance(output, GatedLinear) == bool(frozen.weight.numel())
            if isinstance(output, GatedLinear):
                torch.testing.assert_close(output.weight, frozen.weight * output.gate)


@pytest.mark.parametrize("method", [fisher, magnitude, taylor])
@pytest.mark.parametrize("kind", ["bert", "t5_gated"])
def test_attribution_scores_gated_neurons(kind: str, method: object) -> None:
    dense, batch, _ = case(kind, 0)
    model = gated(dense)
    found = method.scores(model, [batch])  # type: ignore[attr-defined]
    expected = method.scores(folded(model), [batch])  # type: ignore[attr-defined]
    for site, scores in expected.items():
        torch.testing.assert_close(found[site], scores)


def test_a_copy_trains_gates_of_its_own() -> None:
    dense, batch = gated(tiny_model("t5", "prefix", "head")), tiny_inputs("t5")
    before = dense(**batch).detach()
    smaller = cut(dense, random_keep(dense, random.Random(0)))
    train_only(smaller, "gates")
    trained.unmerge_updates(smaller.backbone)
    smaller(**batch).sum().backward()
    gates = trained.list_gates(smaller.backbone)
    assert any(gate.grad is not None for gate in gates)
    with torch.no_grad():
        for gate in gates:
            gate.mul_(2)
    trained.merge_updates(smaller.backbone)
    assert torch.equal(dense(**batch), before)
