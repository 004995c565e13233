"""Exact values by hand, Captum as a reference, and what must not change a score."""

import pytest
import torch
from torch import Tensor

from skip_exp.attribution import activation_gradient
from skip_exp.attribution.observe import products, taps
from skip_exp.models.families.base import FfnBlock
from tests.helpers.tiny import KINDS, READOUT, tiny_batch, tiny_model


@pytest.mark.parametrize("kind", KINDS)
def test_raw_outputs_are_those_of_the_projections(kind: str) -> None:
    """Gradients of the linears' own outputs, by autograd; a head sums over its Q, K and V."""
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind)
    ours = activation_gradient.scores(model, [batch], tokens="sum", at="linears")
    blocks = {b.name: b for b in model.blocks()}
    ffn, own = blocks["encoder.1.ffn"], blocks["encoder.1.self"]
    linears = [*own.attention.projections(), *ffn.up]
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
        "encoder.1.self.qk": (q + k).view(3, own.attention.qk_group, -1).sum(1),
        "encoder.1.self.vo": v.view(3, -1),
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
def test_captum_gives_the_same(kind: str) -> None:
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
        layer = block.down if isinstance(block, FfnBlock) else block.output
        method = captum.LayerGradientXActivation(probability, layer)
        theirs = method.attribute(start, attribute_to_layer_input=True)
        total = (theirs * mask).sum(1).mean(0).detach()
        site = block.name if isinstance(block, FfnBlock) else f"{block.name}.vo"
        torch.testing.assert_close(ours[site].flatten(), total, atol=1e-6, rtol=1e-4)
