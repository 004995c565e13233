"""What is trained: low-rank updates, merged and not, before and after a cut; biases; all."""

import random

import pytest
import torch
from torch import nn

from skip_exp.models import trained
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import (
    LowRankLinear,
    load_trainable,
    skill_parameters,
    train_only,
    trainable_state,
)
from tests.helpers.tiny import KINDS, READOUT, tiny_inputs, tiny_model
from tests.models.test_exactness import case, random_keep

pytestmark = pytest.mark.core

RANK = 2


def updated(model: SoftPromptModel, seed: int = 0) -> SoftPromptModel:
    """A copy whose every linear has an update, as training would leave it."""
    own = model.copy()
    train_only(own, "lora", RANK, seed)
    generator = torch.Generator().manual_seed(seed)
    state = trainable_state(own)
    for name, tensor in state.items():
        if name.endswith(trained.FACTORS):
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.2
    load_trainable(own, state)
    return own


def test_by_hand() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data, linear.bias.data = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([0.5, 0])
    layer = LowRankLinear(linear, 1, torch.Generator())
    x, frozen = torch.tensor([[1.0, 1]]), linear.weight.detach().clone()
    assert layer(x).tolist() == [[3.5, 7]]
    layer.lora_B.data, layer.lora_A.data = torch.tensor([[1.0], [0]]), torch.tensor([[0.0, 10]])
    layer.merge()
    assert layer.weight.tolist() == [[1, 12], [3, 4]]
    assert layer(x).tolist() == layer.plain()(x).tolist() == [[13.5, 7]]
    layer.unmerge()
    assert layer.weight.equal(frozen) and linear.weight.equal(frozen)
    assert layer(x).tolist() == [[13.5, 7]]
    layer(x).sum().backward()
    assert layer.lora_B.grad is not None and layer.lora_A.grad is not None
    assert layer.lora_B.grad.tolist() == [[10], [10]]  # A x
    assert layer.lora_A.grad.tolist() == [[1, 1]]  # (sum of B) x
    assert layer.weight.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_factors_change_nothing(kind: str) -> None:
    dense, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_inputs(kind)
    expected, own = dense(**batch), dense.copy()
    train_only(own, "lora", RANK, seed=3)
    assert torch.equal(own(**batch), expected)
    trained.unmerge_updates(own.backbone)
    assert torch.equal(own(**batch), expected)
    linears = [linear for block in own.blocks() for linear in block.linears()]
    assert len(linears) == len(trained.list_updates(own.backbone)) > 0
    sizes = sum(linear.in_features + linear.out_features for linear in linears)
    assert sum(factor.numel() for factor in trained.list_factors(own.backbone)) == RANK * sizes
    assert all(linear.lora_B.shape[1] == linear.lora_A.shape[0] == RANK for linear in linears)
    assert not trained.list_updates(dense.backbone)
    again, other = dense.copy(), dense.copy()
    train_only(again, "lora", RANK, seed=3)
    train_only(other, "lora", RANK, seed=4)
    first, second, third = (trained.list_factors(m.backbone)[1] for m in (own, again, other))
    assert first.equal(second) and not first.equal(third)
    biases = dense.copy()
    train_only(biases, "bias")
    more = skill_parameters(own).keys() - skill_parameters(biases).keys()
    assert len(more) == 2 * len(linears) and all(name.endswith(trained.FACTORS) for name in more)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["input", "prefix"])
def test_merged_equals_unmerged(kind: str, prompt: str) -> None:
    model = updated(tiny_model(kind, prompt, READOUT[kind]))
    batch = tiny_inputs(kind)
    with torch.no_grad():
        merged = model(**batch)
        folded = model.copy()
        trained.fold_updates(folded.backbone)
        assert torch.equal(folded(**batch), merged)
        assert not trained.list_factors(folded.backbone)
        trained.unmerge_updates(model.backbone)
        apart = model(**batch)
        trained.merge_updates(model.backbone)
        torch.testing.assert_close(apart, merged, atol=1e-5, rtol=1e-6)
        assert (merged - tiny_model(kind, prompt, READOUT[kind])(**batch)).abs().max() > 1e-3
        assert torch.equal(model(**batch), merged)  # merged again, exactly


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_cuts_the_factors(kind: str) -> None:
    """cut(merged) == merged(cut), and what is left still is frozen weight + B @ A."""
    for seed in range(2):
        dense, batch, keep = case(kind, seed)
        del batch["labels"]
        model = updated(dense, seed)
        folded = model.copy()
        trained.fold_updates(folded.backbone)
        smaller = cut(model, keep)
        with torch.no_grad():
            expected = cut(folded, keep)(**batch)
            torch.testing.assert_close(smaller(**batch), expected, atol=1e-5, rtol=1e-5)
            trained.unmerge_updates(smaller.backbone)
            torch.testing.assert_close(smaller(**batch), expected, atol=1e-5, rtol=1e-5)
            trained.merge_updates(smaller.backbone)
        linears = zip(cut(dense, keep).blocks(), smaller.blocks(), strict=True)
        for plain, of_update in linears:
            for frozen, linear in zip(plain.linears(), of_update.linears(), strict=True):
                assert isinstance(linear, LowRankLinear) == bool(frozen.weight.numel())
                if isinstance(linear, LowRankLinear):
                    assert linear.base is not None and linear.base.equal(frozen.weight)
                    whole = frozen.weight + linear.lora_B @ linear.lora_A
                    torch.testing.assert_close(linear.weight, whole)


def test_a_copy_trains_factors_of_its_own() -> None:
    dense, batch = updated(tiny_model("t5", "prefix", "head")), tiny_inputs("t5")
    before = dense(**batch).detach()
    smaller = cut(dense, random_keep(dense, random.Random(0)))
    train_only(smaller, "lora", RANK)
    layers, shared = trained.list_updates(smaller.backbone), trained.list_factors(dense.backbone)
    assert not {id(f) for f in trained.list_factors(smaller.backbone)} & {id(f) for f in shared}
    trained.unmerge_updates(smaller.backbone)
    smaller(**batch).sum().backward()
    assert any(layer.lora_B.grad is not None for layer in layers)
    with torch.no_grad():
        for parameter in skill_parameters(smaller).values():
            parameter.add_(0.1)
    trained.merge_updates(smaller.backbone)
    assert torch.equal(dense(**batch), before)


@pytest.mark.parametrize("kind", KINDS)
def test_biases_become_the_cut_models_own(kind: str) -> None:
    dense, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_inputs(kind)
    before = dense(**batch).detach()
    smaller = cut(dense, {"encoder.0.ffn": torch.arange(4)})
    same = smaller(**batch).detach()
    train_only(smaller, "bias")
    assert torch.equal(smaller(**batch), same)
    own = [name for name in skill_parameters(smaller) if name.startswith("backbone.")]
    assert own
    assert all(p.dim() == 1 for n, p in skill_parameters(smaller).items() if n in own)
    assert not any("embed" in name.lower() for name in own)
    with torch.no_grad():
        for name in own:
            smaller.get_parameter(name).add_(0.5)
    assert not torch.equal(smaller(**batch), same)
    assert torch.equal(dense(**batch), before)


def test_prompt_alone() -> None:
    model = tiny_model()
    train_only(model, "prompt")
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"prompt"}
    assert "readout.linear.weight" in skill_parameters(model)  # kept, though not trained
    train_only(model, "prompt_readout")
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"prompt", "readout"}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_its_own_on_shared_embeddings(kind: str) -> None:
    shared = tiny_model(kind, "none", READOUT[kind])
    own = shared.copy()
    train_only(own, "layers")
    linears = [linear for block in own.blocks() for linear in block.linears()]
    weights = {id(linear.weight) for linear in linears}
    trained = {id(p) for p in own.parameters() if p.requires_grad}
    assert weights <= trained
    words = own.backbone.get_input_embeddings().weight
    assert not words.requires_grad
    assert words is shared.backbone.get_input_embeddings().weight
    assert not trained & {id(p) for p in shared.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_of_its_own(kind: str) -> None:
    shared, batch = tiny_model(kind, "none", READOUT[kind]), tiny_inputs(kind)
    before = shared(**batch).detach()
    own = shared.copy()
    train_only(own, "full")
    assert torch.allclose(own(**batch), before, atol=1e-5)
    assert all(p.requires_grad for p in own.parameters())
    assert len(list(own.parameters())) == len(list(shared.parameters()))  # tied ones stay tied
    own(**batch).sum().backward()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1)
    assert torch.equal(shared(**batch), before)
