"""Mask tuning: the scales of what is kept, worked out by hand, and what a model makes of them."""

import pytest
import torch

from skip_exp.models.families.base import FfnBlock, Stream
from skip_exp.models.sites import Sublayer
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import mask_tuning
from skip_exp.pruning.reconstruct.changes import apply
from skip_exp.pruning.reconstruct.compute import changes
from skip_exp.pruning.reconstruct.streams import caught, dense_streams, real
from skip_exp.pruning.surgery import cut
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model


def test_two_units_by_hand() -> None:
    # Units add (1, 0) and (1, 1); asked for is (4, 3): scales 1 and 3.
    a, b = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).double(), torch.tensor([4.0, 3.0]).double()
    scales = mask_tuning.solve(1e4 * a.T @ a, 1e4 * a.T @ b)
    assert scales.tolist() == pytest.approx([1, 3], abs=1e-6)


def test_damping_holds_what_the_texts_do_not_tell_of_at_one() -> None:
    products = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).double()  # the second unit never fires
    # min (2 d - 2)^2 + d^2 about 1: d = 4 / 5.
    found = mask_tuning.solve(products, torch.tensor([4.0, 0.0]).double())
    assert found.tolist() == pytest.approx([1.8, 1.0])


def test_the_equations_of_a_model_are_those_of_its_tokens() -> None:
    model, batch = tiny_model("bert"), tiny_batch("bert")
    keep = {"encoder.0.ffn": torch.tensor([2, 5])}
    wanted = dense_streams(model, list(keep), [batch])
    smaller = cut(model, keep)
    block = next(b for b in smaller.blocks() if b.name in keep)
    products, goal = mask_tuning._normal_equations(smaller, block, [batch], wanted)
    inputs: list[torch.Tensor] = []
    handle = block.output.register_forward_pre_hook(lambda _m, x: inputs.append(x[0]))
    with torch.no_grad(), caught([block]) as found:
        smaller(**{name: x for name, x in batch.items() if name != "labels"})
    handle.remove()
    real = batch["attention_mask"].bool()
    x, weight = inputs[0][real].double(), block.output.weight.double()
    a = (x[:, None] * weight).flatten(0, 1)  # [tokens * H, 2]: what each unit adds
    b = (wanted[0][block.name] - found[block.name])[real].double().flatten() + a.sum(1)
    torch.testing.assert_close(products, a.T @ a)
    torch.testing.assert_close(goal, a.T @ b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_beside_its_double_is_given_both_shares(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_tuning, "DAMPING", 1e-6)  # of 1, on so few tokens, much is left
    model, batch = tiny_model(kind), tiny_batch(kind, rows=8)
    block = next(b for b in model.blocks() if isinstance(b, FfnBlock))
    for up in block.up:
        up.weight[12:] = up.weight[:8]
        if up.bias is not None:
            up.bias[12:] = up.bias[:8]
    block.down.weight[:, 12:] = 0.5 * block.down.weight[:, :8]
    keep = {block.name: torch.arange(12)}
    found = changes(model, keep, [batch], reconstruct="mask_tuning")
    assert found.keys() == {f"{block.name}.scale"}
    if kind != "t5":  # a ReLU that no token switches on tells nothing
        scales = found[f"{block.name}.scale"].tolist()
        assert scales == pytest.approx([1.5] * 8 + [1.0] * 4, abs=0.02)
    smaller = cut(model, keep)
    before = off(model, smaller, batch)
    apply(smaller, found)
    assert off(model, smaller, batch) < 0.03 * before


def off(model: SoftPromptModel, smaller: SoftPromptModel, batch: dict[str, torch.Tensor]) -> float:
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    with torch.no_grad():
        return float((model(**inputs) - smaller(**inputs)).abs().max())


@pytest.mark.parametrize("prompt", ["prefix", "input"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sublayer_comes_nearer_one_number_a_neuron(kind: str, prompt: str) -> None:
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, prompt, readout), tiny_batch(kind, rows=8)
    names = [block.name for block in model.blocks()]
    keep = {n: torch.arange(6) for n in names if n.endswith("ffn")}
    keep |= {f"{n}.heads": torch.tensor([0, 2]) for n in names if not n.endswith("ffn")}
    keep[names[-1]] = torch.tensor([], dtype=torch.long)  # has nothing to scale
    found = changes(model, keep, [batch], reconstruct="mask_tuning")
    assert found and set(found) <= {f"{name}.scale" for name in names[:-1]}
    for key, scales in found.items():
        assert len(scales) == (6 if "ffn" in key else 2)
        assert scales.abs().max() <= mask_tuning.LARGEST
    first = next(block for block in model.blocks() if f"{block.name}.scale" in found)
    errors = []
    for scaled in ({}, found):
        smaller = cut(model, keep)
        apply(smaller, scaled)
        given, wanted = (dense_streams(m, [first.name], [batch])[0] for m in (smaller, model))
        is_real = real(model, first, batch, wanted[first.name]).bool()
        errors.append(float((given[first.name] - wanted[first.name])[is_real].norm()))
    assert errors[1] < errors[0]


def test_beyond_ten_nothing_more_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_model("bert"), tiny_batch("bert")
    keep = {f"encoder.{i}.ffn": torch.arange(6) for i in range(2)}
    asked = iter([torch.full((6,), 2.0), torch.full((6,), -11.0)])
    monkeypatch.setattr(mask_tuning, "solve", lambda *_: next(asked))
    assert changes(model, keep, [batch], reconstruct="mask_tuning").keys() == {
        "encoder.0.ffn.scale"
    }


@pytest.mark.parametrize("scale", [torch.ones(4), torch.ones(0), torch.ones(1, 6)])
def test_a_scale_that_does_not_fit(scale: torch.Tensor) -> None:
    smaller = cut(tiny_model(), {"encoder.0.ffn": torch.arange(6)})
    with pytest.raises(ValueError, match=r"a scale of shape .* for 6 inputs"):
        apply(smaller, {"encoder.0.ffn.scale": scale})


def test_a_stream_is_caught_before_or_behind_a_module() -> None:
    first, second = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    names = [Sublayer("encoder.0.ffn"), Sublayer("encoder.1.ffn")]
    blocks = [
        FfnBlock(names[0], (first,), first, Stream(first, before=True)),
        FfnBlock(names[1], (second,), second, Stream(second, before=False)),
    ]
    x = torch.ones(1, 1)
    with caught(blocks, detach=True) as found:
        out = second(first(x))
    assert torch.equal(found[names[0]], x)
    assert torch.equal(found[names[1]], out) and found[names[1]].requires_grad
    assert not out.requires_grad
    assert not first._forward_pre_hooks and not second._forward_hooks
