"""Exact values by hand, completeness, and Captum as a reference."""

from typing import Any

import pytest
import torch
from torch import Tensor

from skip_exp.attribution import integrated_gradients
from skip_exp.attribution.observe import Tap, logits, observe, replaced, taps, true_label
from skip_exp.models.soft_prompt import SoftPromptModel
from tests.helpers.tiny import READOUT, tiny_batch, tiny_model
from tests.helpers.toy import rarely


@pytest.mark.core
@pytest.mark.parametrize("kind", ["bert", *rarely("modernbert"), "t5_gated"])
def test_scores_of_a_layer_add_up_to_what_it_changes(kind: str) -> None:
    """Completeness (Sundararajan et al. 2017, proposition 1), in the decoder, too."""
    readout = "seq2seq" if kind.startswith("t5") else "mlm"
    model, batch = tiny_model(kind, "input", readout), tiny_batch(kind, rows=2)
    # Many steps: T5's norms and ReLUs bend the path, and 16 steps leave an error of 1e-3.
    options = {"tokens": "sum", "steps": 256, "micro_batch": 512}
    ours = integrated_gradients.scores(model, [batch], **options)
    with torch.no_grad():
        with observe(model) as seen:
            logits(model, batch)
        full = true_label(model, batch, "probability").mean()
        for name, tap in taps(model).items():
            if name.endswith((".q", ".k")):
                continue  # they share a site
            with replaced(tap, torch.zeros_like(seen[name])):
                without = true_label(model, batch, "probability").mean()
            for site in tap.sites:
                torch.testing.assert_close(ours[site].sum(), full - without, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "t5_gated"])
def test_captum_gives_the_same(kind: str) -> None:
    """``LayerIntegratedGradients`` of every activation of the encoder's last layer.

    The input that Captum wants is a factor on the activation: of one, and of zero as the baseline.
    """
    captum = pytest.importorskip("captum.attr")
    model, batch = tiny_model(kind, "prefix", READOUT[kind]), tiny_batch(kind)
    ours = integrated_gradients.scores(model, [batch], tokens="sum")
    real = model.encoder_mask(batch["attention_mask"])[..., None]
    theirs: dict[str, Tensor] = {}
    for name, tap in taps(model).items():
        if name.startswith("encoder.1"):
            found = by_captum(captum, model, batch, tap)
            total = (found * real).sum(1).mean(0).detach()
            if name.endswith((".q", ".k")):
                total = total.view(3, tap.group, -1).sum(1).flatten()
            theirs[tap.sites[0]] = theirs.get(tap.sites[0], 0) + total
    assert theirs.keys() == {"encoder.1.self.qk", "encoder.1.self.vo", "encoder.1.ffn"}
    for site, expected in theirs.items():
        torch.testing.assert_close(ours[site].flatten(), expected, atol=1e-6, rtol=1e-4)


def by_captum(captum: Any, model: SoftPromptModel, batch: dict[str, Tensor], tap: Tap) -> Tensor:
    names, values = zip(*batch.items(), strict=True)
    factors: list[Tensor] = []

    def probability(factor: Tensor, *rows: Tensor) -> Tensor:
        factors[:] = [factor[:, :, None]]
        return true_label(model, dict(zip(names, rows, strict=True)), "probability")

    handle = tap.hook(lambda x: x * factors[0])  # before Captum's own hook
    try:
        one = torch.ones(len(batch["labels"]), 1)
        return captum.LayerIntegratedGradients(probability, tap.linear).attribute(
            one,
            one * 0,
            additional_forward_args=values,
            n_steps=16,
            attribute_to_layer_input=tap.before,
        )
    finally:
        handle.remove()


def test_the_memory_bound_changes_nothing() -> None:
    model, batch = tiny_model(), tiny_batch(rows=3)
    expected = integrated_gradients.scores(model, [batch], steps=5, micro_batch=1000)
    for rows in (1, 7):  # one step, then two steps at once
        found = integrated_gradients.scores(model, [batch], steps=5, micro_batch=rows)
        for site in expected:
            torch.testing.assert_close(found[site], expected[site], atol=1e-6, rtol=1e-3)
