"""What re-tuning may train, and that a model's own biases stay its own."""

import pytest
import torch

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import skill_parameters, train_only
from tests.helpers.tiny import KINDS, READOUT, tiny_inputs, tiny_model


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


def test_a_model_is_built_in_eval_mode() -> None:
    model = tiny_model("bert", "prefix")
    model.backbone.train()
    built = SoftPromptModel(model.backbone, model.family, model.prompt, model.readout)
    assert not built.backbone.training


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
