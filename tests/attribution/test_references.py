"""Scores of tiny models of every family against autograd, masks, norms and Captum; their hooks."""

import pytest
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from skip_exp.attribution import (
    activation_gradient,
    fisher,
    taylor,
)
from skip_exp.attribution.observe import (
    Tap,
    logits,
    observe,
    over_tokens,
    products,
    taps,
)
from skip_exp.attribution.target import true_label
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shape_of
from tests.helpers.tiny import KINDS, READOUT, tiny_batch, tiny_model

pytestmark = pytest.mark.core


def replace_activation(tap: Tap, value: Tensor) -> RemovableHandle:
    return tap.hook(lambda x: value.view(x.shape))


def of_label(model: SoftPromptModel, batch: dict[str, Tensor], target: str) -> Tensor:
    return true_label(logits(model, batch), batch["labels"], target)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_outputs_are_those_of_the_projections(kind: str) -> None:
    """Gradients of the linears' own outputs, by autograd; a head sums over its Q, K and V."""
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind)
    ours = activation_gradient.scores(model, [batch], tokens="sum", at="linears")
    blocks = {b.name: b for b in model.blocks()}
    ffn, own = blocks["encoder.1.ffn"], blocks["encoder.1.self"]
    linears = [*own.inner, *ffn.inner]
    outputs: list[Tensor] = []
    handles = [
        linear.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for linear in linears
    ]
    p = model(**{k: v for k, v in batch.items() if k != "labels"}).softmax(-1)
    for handle in handles:
        handle.remove()
    goal = p.gather(1, batch["labels"][:, None]).mean()
    gradients = torch.autograd.grad(goal, outputs)
    q, k, v, *up = ((h * g).sum((0, 1)) for h, g in zip(outputs, gradients, strict=True))
    expected = {
        "encoder.1.ffn": sum(up),
        "encoder.1.self.heads": (q + k + v).view(3, -1).sum(1),
    }
    for site, scores in expected.items():
        torch.testing.assert_close(ours[site], scores.detach(), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("tokens", ["max", "mean"])
def test_a_shorter_label_word_has_no_positions_to_spare(tokens: str) -> None:
    """The words have one piece, two and two: the second position of the first is padding."""
    model, batch = tiny_model("t5", "prefix", "seq2seq"), tiny_batch("t5")
    tap = next(tap for name, tap in taps(model).items() if name.startswith("decoder.1.ffn"))
    (found,) = products(model, batch, {"ffn": tap}, "probability").values()
    x = found.view(len(batch["labels"]), 3, 2, -1)  # texts, words, positions, units
    long = x[:, 1:].amax(2) if tokens == "max" else x[:, 1:].mean(2)
    expected = (x[:, 0, 0] + long.sum(1)).mean(0)
    scores = activation_gradient.scores(model, [batch], tokens=tokens, sign="signed")
    torch.testing.assert_close(scores["decoder.1.ffn"], expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_captum_gives_the_same_gradients(kind: str) -> None:
    """Layer gradient x activation at the input of every down and output projection."""
    captum = pytest.importorskip("captum.attr")
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind)
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    ours = activation_gradient.scores(model, [batch], tokens="sum")

    def probability(embeds: Tensor) -> Tensor:
        """Captum wants a differentiable input: the word embeddings, through the same model."""
        handle = model.backbone.get_input_embeddings().register_forward_hook(
            lambda _m, args, out: (
                out + 0 * embeds.sum() if args[0].shape == inputs["input_ids"].shape else out
            )
        )
        try:
            logits = model(**inputs)
        finally:
            handle.remove()
        return logits.softmax(-1).gather(1, batch["labels"][:, None])[:, 0]

    start = torch.zeros(len(batch["labels"]), 1, requires_grad=True)
    mask = model.encoder_mask(batch["attention_mask"])[..., None]
    for block in model.blocks():
        if not block.name.startswith("encoder"):
            continue
        method = captum.LayerGradientXActivation(probability, block.output)
        theirs = method.attribute(start, attribute_to_layer_input=True)
        total = (theirs * mask).sum(1).mean(0).detach()
        total = total.view(shape_of(block).units, -1).sum(1)
        torch.testing.assert_close(ours[block.name.site], total, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_fisher_is_the_gradient_of_real_masks(kind: str) -> None:
    """One mask at a time on what a cut removes (as in tests/models/test_exactness.py)."""
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind, rows=3)
    ours = fisher.scores(model, [batch])
    for tap in taps(model).values():
        site, expected = tap.sublayer.site, 0
        for i in range(3):
            text = {n: x[i : i + 1] for n, x in batch.items()}
            expected = expected + mask_gradient(model, text, tap, len(ours[site])).square() / 3
        torch.testing.assert_close(ours[site], expected, atol=1e-8, rtol=1e-3)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_the_sign_of_a_text_gives_the_gradient_of_its_mask(kind: str) -> None:
    """The label words of a T5 have several pieces: its decoder has a row per label."""
    model, text = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind, rows=1)
    options = {"tokens": "sum", "sign": "text", "target": "log_probability"}
    ours = activation_gradient.scores(model, [text], **options)
    for site, squared in fisher.scores(model, [text]).items():
        torch.testing.assert_close(ours[site].square(), squared, atol=1e-8, rtol=1e-3)


def mask_gradient(model, text: dict[str, Tensor], tap, size: int) -> Tensor:
    mask = torch.ones(size, requires_grad=True)
    factor = mask if tap.heads is None else mask[:, None]

    handle = tap.hook(lambda x: (tap.view(x) * factor).view(x.shape))
    try:
        loss = -of_label(model, text, "log_probability").sum()
    finally:
        handle.remove()
    return torch.autograd.grad(loss, mask)[0]


def changes_of(model: SoftPromptModel) -> dict[str, torch.Tensor]:
    """(w * dL/dw)^2 per neuron from the gradients that are in the model's weights now."""
    found = {}
    for block in model.blocks():
        if block.attention is None:
            into = [(up.weight * up.weight.grad).square().sum(1) for up in block.inner]
            into += [(u.bias * u.bias.grad).square() for u in block.inner if u.bias is not None]
            out = (block.output.weight * block.output.weight.grad).square().sum(0)
            found[block.name] = sum(into) + out
            continue
        heads, rows = block.attention.heads, []
        for linear in block.inner:
            change = (linear.weight * linear.weight.grad).square().sum(1)
            if linear.bias is not None:
                change = change + (linear.bias * linear.bias.grad).square()
            rows.append(change.view(heads, -1))
        out = (block.output.weight * block.output.weight.grad).square().sum(0).view(heads, -1)
        found[f"{block.name}.heads"] = (rows[0] + rows[1] + rows[2] + out).sum(1)
    return found


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_taylor_is_the_weights_own_gradients(kind: str) -> None:
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind, rows=3)
    ours = taylor.scores(model, [batch])
    model.backbone.requires_grad_(True)
    expected: dict[str, torch.Tensor] = {}
    for i in range(3):
        model.zero_grad()
        text = {name: x[i : i + 1] for name, x in batch.items()}
        (-of_label(model, text, "log_probability")).sum().backward()
        for site, change in changes_of(model).items():
            expected[site] = expected.get(site, 0) + change.detach() / 3
    assert ours.keys() == expected.keys()
    for site, scores in expected.items():
        torch.testing.assert_close(ours[site], scores, atol=1e-8, rtol=1e-3)


def test_hooks_are_gone_after_an_error() -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError, match="on purpose"), observe(model):
        assert any(m._forward_pre_hooks for m in model.modules())
        raise RuntimeError("on purpose")
    with (
        pytest.raises(RuntimeError),
        replace_activation(taps(model)["encoder.0.ffn"], torch.ones(1)),
    ):
        logits(model, tiny_batch())
    with pytest.raises(AttributeError), observe(model, {**taps(model), "no tap": None}):
        pass
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("at", ["neurons", "linears"])
def test_every_tap_is_seen_and_can_be_put_back(at: str) -> None:
    model, batch = tiny_model("t5_gated", "prefix", "seq2seq"), tiny_batch("t5_gated")
    with torch.no_grad():
        with observe(model, taps(model, at)) as seen:
            expected = logits(model, batch)
        assert seen.keys() == taps(model, at).keys()
        for name, tap in taps(model, at).items():
            with replace_activation(tap, seen[name]):
                torch.testing.assert_close(logits(model, batch), expected)
            with replace_activation(tap, torch.zeros_like(seen[name])):
                changed = not torch.equal(logits(model, batch), expected)
            # One decoder step attends to itself alone, whatever its query and key say.
            assert changed or "decoder" in name


def test_over_tokens_ignores_padding() -> None:
    scores = torch.tensor([[[-2.0], [-1.0], [0.0]]])
    mask = torch.tensor([[True, True, False]])
    assert over_tokens(scores, mask, "max").tolist() == [[-1.0]]
    assert over_tokens(scores, mask, "sum").tolist() == [[-3.0]]
    assert over_tokens(scores, mask, "mean").tolist() == [[-1.5]]


def test_what_no_readout_asks_is_worth_nothing_to_taylor() -> None:
    model, batch = tiny_model("t5_gated", "input", "head"), tiny_batch("t5_gated", rows=2)
    scores = taylor.scores(model, [batch])
    assert all(scores[site].any() == site.startswith("encoder") for site in scores)
