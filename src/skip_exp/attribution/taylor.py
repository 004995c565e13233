"""First-order Taylor expansion in the weights (Molchanov et al. 2019).

Removing a weight w changes the loss by about w * dL/dw. A neuron's importance is the sum over its
weights of the squared changes, I_i = sum over w of (w * dL/dw)^2, for each text (a minibatch of
one), averaged over the texts; L is the cross entropy of the true label. A neuron's weights are
those that go with it: in and out of an FFN unit, all four projections of a head. The paper's other
form, the square of the sum, is for the outgoing weights what ``fisher`` computes.

No weight ever requires a gradient: that of a linear is (gradient of its outputs)^T inputs.

Cost: one forward and one backward pass with weight gradients, about three to four
forward passes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from skip_exp.attribution.aggregate import Totals
from skip_exp.attribution.observe import Tap, observe, true_label
from skip_exp.attribution.weights import Part, by_site, parts
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(model: SoftPromptModel, batches: Iterable[Batch]) -> Relevance:
    """Relevance of every neuron, in the shapes of :func:`activation_gradient.scores`."""
    blocks = [(block, parts(block)) for block in model.blocks()]
    totals, texts = Totals(model), 0
    for batch in batches:
        passed = _inputs_and_gradients(model, batch, [p for _, owned in blocks for p in owned])
        for block, owned in blocks:
            changes = [_squared_changes(part, *passed.get(part, (None, None))) for part in owned]
            for site, change in by_site(block, changes).items():
                totals.add(site, change[None])
        texts += len(batch["labels"])
    return totals.means(texts)


def _inputs_and_gradients(
    model: SoftPromptModel, batch: Batch, layers: list[Part]
) -> dict[Part, tuple[Tensor, Tensor]]:
    """Inputs [B, T, in] of every layer that is in use, and dL/d outputs [B, T, out].

    Padding reaches no logit: its gradient is zero. The rows that a decoder may have for each label
    are further positions of their text.
    """
    taps_by_name = {f"{i}.in": Tap(part.linear, before=True) for i, part in enumerate(layers)}
    taps_by_name |= {f"{i}.out": Tap(part.linear, before=False) for i, part in enumerate(layers)}
    with torch.enable_grad(), observe(model, taps_by_name) as activations:
        loss = -true_label(model, batch, "log_probability").sum()
        used = [i for i in range(len(layers)) if {f"{i}.in", f"{i}.out"} <= activations.keys()]
        gradients = torch.autograd.grad(loss, [activations[f"{i}.out"] for i in used])
    texts = len(batch["labels"])
    return {
        layers[i]: (
            activations[f"{i}.in"]
            .detach()
            .float()
            .reshape(texts, -1, layers[i].linear.in_features),
            gradient.float().reshape(texts, -1, layers[i].linear.out_features),
        )
        for i, gradient in zip(used, gradients, strict=True)
    }


def _squared_changes(part: Part, inputs: Tensor | None, gradients: Tensor | None) -> Tensor:
    """Sum over the texts of (w * dL/dw)^2 over each neuron's weights: [neurons]."""
    weight, bias = part.linear.weight.detach().float(), part.linear.bias
    total = part.per_neuron(torch.zeros_like(weight), None)
    if inputs is None or gradients is None:  # the sublayer was cut away
        return total
    for x, g in zip(inputs, gradients, strict=True):
        of_weight = (weight * (g.T @ x)).square()
        of_bias = None if bias is None else (bias.detach().float() * g.sum(0)).square()
        total += part.per_neuron(of_weight, of_bias)
    return total
