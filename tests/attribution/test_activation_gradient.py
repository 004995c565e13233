"""Exact values by hand, Captum as a reference, and what must not change a score."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from skip_exp.attribution import activation_gradient, random
from skip_exp.attribution.observe import observe, over_tokens
from skip_exp.errors import ConfigError
from skip_exp.models.families import FfnBlock
from tests.tiny import KINDS, tiny_batch, tiny_model


class TwoUnits(nn.Module):
    """One token value x per position; units h = (x, 2x); logits = sum of h over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.up.weight.data = torch.tensor([[1.0], [2.0]])
        self.down.weight.data = torch.eye(2)
        self.requires_grad_(False)
        self.readout = SimpleNamespace(kind="head")

    def blocks(self) -> list[FfnBlock]:
        return [FfnBlock("encoder.0.ffn", (self.up,), self.down)]

    def encoder_mask(self, mask: Tensor) -> Tensor:
        return mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out = self.down(self.up(input_ids.float()[..., None]))
        return (out * attention_mask[..., None]).sum(1)


# x = 1, 3 (and a padded 50): logits 4 and 8; P(1) = s = sigmoid(4), dP/dh = s (1 - s) (-1, +1).
BATCH = {
    "input_ids": torch.tensor([[1, 3, 50]]),
    "attention_mask": torch.tensor([[1, 1, 0]]),
    "labels": torch.tensor([1]),
}
S = float(torch.sigmoid(torch.tensor(4.0)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [-1.0 * S * (1 - S), 6.0 * S * (1 - S)]),
        ({"tokens": "sum"}, [-4.0 * S * (1 - S), 8.0 * S * (1 - S)]),
        ({"tokens": "mean"}, [-2.0 * S * (1 - S), 4.0 * S * (1 - S)]),
        ({"sign": "absolute"}, [3.0 * S * (1 - S), 6.0 * S * (1 - S)]),
        ({"target": "log_probability"}, [-1.0 * (1 - S), 6.0 * (1 - S)]),
    ],
)
def test_by_hand(options: dict[str, str], expected: list[float]) -> None:
    found = activation_gradient.scores(TwoUnits(), [BATCH], **options)  # type: ignore[arg-type]
    assert found["encoder.0.ffn"].tolist() == pytest.approx(expected, rel=1e-4)


def test_mean_over_texts_not_over_batches() -> None:
    three = {k: v.expand(3, *v.shape[1:]).clone() for k, v in BATCH.items()}
    three["input_ids"][2] = 0
    found = activation_gradient.scores(TwoUnits(), [three, BATCH], tokens="sum")  # type: ignore[arg-type]
    assert found["encoder.0.ffn"][1] == pytest.approx(3 / 4 * 8 * S * (1 - S), rel=1e-4)


def test_over_tokens_ignores_padding() -> None:
    scores = torch.tensor([[[-2.0], [-1.0], [0.0]]])
    mask = torch.tensor([[True, True, False]])
    assert over_tokens(scores, mask, "max").tolist() == [[-1.0]]
    assert over_tokens(scores, mask, "sum").tolist() == [[-3.0]]
    assert over_tokens(scores, mask, "mean").tolist() == [[-1.5]]


@pytest.mark.parametrize("key", ["tokens", "sign", "target"])
def test_unknown_option_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"attribution\.{key}=nonsense: must be one of"):
        activation_gradient.scores(TwoUnits(), [BATCH], **{key: "nonsense"})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_batch_order_change_no_relevance(kind: str) -> None:
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, "prefix", readout), tiny_batch(kind, rows=6)
    together = activation_gradient.scores(model, [batch])
    rows = [
        {k: v[i : i + 1, : int(n)] if v.dim() == 2 else v[i : i + 1] for k, v in batch.items()}
        for i, n in reversed(list(enumerate(batch["attention_mask"].sum(1))))
    ]
    alone = activation_gradient.scores(model, rows)
    assert together.keys() == alone.keys() == random.scores(model, []).keys()
    for site, expected in together.items():
        torch.testing.assert_close(alone[site], expected, atol=1e-6, rtol=1e-3)
        assert random.scores(model, [])[site].shape == expected.shape


@pytest.mark.parametrize("kind", KINDS)
def test_captum_gives_the_same(kind: str) -> None:
    """Layer gradient x activation at the input of every down and output projection."""
    captum = pytest.importorskip("captum.attr")
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, "prefix", readout), tiny_batch(kind)
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


def test_hooks_are_gone_after_an_error() -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError, match="on purpose"), observe(model):
        assert any(m._forward_pre_hooks for m in model.modules())
        raise RuntimeError("on purpose")
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_random_depends_on_its_seed_alone() -> None:
    model = tiny_model()
    first, again = (random.scores(model, [], seed=3) for _ in range(2))
    other = random.scores(model, [], seed=4)
    assert all(torch.equal(first[s], again[s]) for s in first)
    assert not torch.equal(first["encoder.0.ffn"], other["encoder.0.ffn"])
