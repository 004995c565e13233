"""What is played back is what would be computed, nothing below runs, and nothing stays behind."""

import pytest
import torch

from skip_exp.attribution.observe import logits, observe, replaced, taps, true_label
from skip_exp.attribution.replay import record, replay
from skip_exp.models.families.base import AttentionBlock
from tests.helpers.hand import BATCH, TwoUnits
from tests.helpers.tiny import KINDS, tiny_batch, tiny_model


@pytest.mark.parametrize("prompt", ["prefix", "input"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_passes_from_any_activation_equal_whole_ones(kind: str, prompt: str, rows: int) -> None:
    """Two copies of the rows, one of them with half the activation: values and gradients."""
    readout = "seq2seq" if kind.startswith("t5") else "mlm"
    model, batch = tiny_model(kind, prompt, readout), tiny_batch(kind, rows=rows)
    twice = {name: x.repeat(2, *[1] * (x.dim() - 1)) for name, x in batch.items()}
    found = taps(model)
    recorded = record(model, batch, found)
    assert recorded.keys() == found.keys()
    with observe(model, found) as seen, torch.no_grad():
        logits(model, batch)
    for name, (h, below) in recorded.items():
        assert torch.equal(h, seen[name])
        results = []
        for returned in ({}, below):
            scaled = torch.cat([h, h / 2]).requires_grad_()
            with replaced(found[name], scaled), replay(returned, 2):
                p = true_label(model, twice, "probability")
            gradients = torch.autograd.grad(p.sum(), scaled)
            results.append((p.detach(), *gradients))
        torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_below_runs(kind: str) -> None:
    """Weights below the activation are made useless: only what is above it may be read."""
    readout = "seq2seq" if kind.startswith("t5") else "head"
    model, batch = tiny_model(kind, "prefix", readout), tiny_batch(kind)
    blocks = model.blocks()
    for i, block in enumerate(blocks):
        attention = isinstance(block, AttentionBlock)
        name = f"{block.name}.vo" if attention else block.name
        h, below = record(model, batch, taps(model))[name]
        with torch.no_grad():
            expected = logits(model, batch)
        spoilt = [linear for b in blocks[:i] for linear in (b.output,)]
        spoilt += block.attention.projections() if attention else block.up
        kept = [linear.weight.data for linear in spoilt]
        for linear in spoilt:
            linear.weight.data = torch.full_like(linear.weight, torch.nan)
        with torch.no_grad(), replay(below, 1), replaced(taps(model)[name], h):
            found = logits(model, batch)
        for linear, weight in zip(spoilt, kept, strict=True):
            linear.weight.data = weight
        torch.testing.assert_close(found, expected)


def test_modules_are_as_they_were_after_an_error() -> None:
    model, batch = tiny_model(), tiny_batch()
    _, below = record(model, batch, taps(model))["encoder.1.ffn"]
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    with pytest.raises(RuntimeError, match="on purpose"), replay(below, 1):
        assert any("forward" in vars(module) for module in model.modules())
        raise RuntimeError("on purpose")
    assert not any("forward" in vars(module) for module in model.modules())


def test_what_is_below_by_hand() -> None:
    model = TwoUnits()
    found = taps(model)  # type: ignore[arg-type]
    ((h, below),) = record(model, BATCH, found).values()  # type: ignore[arg-type]
    assert list(below) == [model.up]
    assert h.tolist() == [[[1.0, 2.0], [3.0, 6.0], [50.0, 100.0]]]
