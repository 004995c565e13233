"""Completeness; tests/benchmarks compare the scores with Captum's."""

import pytest
import torch

from skip_exp.attribution import integrated_gradients
from skip_exp.attribution.observe import logits, observe, replaced, taps, true_label
from tests.helpers.tiny import tiny_batch, tiny_model
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


def test_the_memory_bound_changes_nothing() -> None:
    model, batch = tiny_model(), tiny_batch(rows=3)
    expected = integrated_gradients.scores(model, [batch], steps=5, micro_batch=1000)
    for rows in (1, 7):  # one step, then two steps at once
        found = integrated_gradients.scores(model, [batch], steps=5, micro_batch=rows)
        for site in expected:
            torch.testing.assert_close(found[site], expected[site], atol=1e-6, rtol=1e-3)
