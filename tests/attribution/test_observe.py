"""Hooks come and go; what is read can be replaced; padding never counts."""

import pytest
import torch

from skip_exp.attribution.aggregate import over_tokens
from skip_exp.attribution.observe import logits, observe, replace_activation, taps
from tests.helpers.tiny import tiny_batch, tiny_model


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
