"""First-order Taylor expansion in the weights (Molchanov et al. 2019).

Removing a weight w changes the loss L, the cross entropy of the true label, by about w * dL/dw. A
neuron's importance is the sum over its weights of the squared changes, I_i = sum of (w * dL/dw)^2,
for each text (a minibatch of one), averaged over the texts. A neuron's weights are those that go
with it: in and out of an FFN unit, all four projections of a head. The paper's other form, the
square of the sum, equals ``fisher`` for the outgoing weights.

No weight ever requires a gradient: that of a linear is (gradient of its outputs)^T inputs.

Cost: a forward and a backward pass with weight gradients, about three to four forward passes.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from skip_exp.attribution.observe import Tap, Totals, logits, observe, of_block, per_neuron
from skip_exp.attribution.target import true_label
from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel

Passed = dict[nn.Linear, tuple[Tensor, Tensor]]


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    target: str = "log_probability",
    temperature: float = 1.0,
) -> Relevance:
    """Score every neuron by the squared first-order changes of the loss over its weights.

    Arguments and result as in :func:`activation_gradient.scores`. Any ``target`` but the
    default takes the place of minus the loss.
    """
    goal = partial(true_label, target=target, temperature=temperature)
    blocks = model.blocks()
    linears = [linear for block in blocks for linear in block.linears()]
    totals = Totals(model)
    texts = 0
    for batch in batches:
        passed = _inputs_and_gradients(model, batch, linears, goal)

        def squared_changes(linear: nn.Linear, is_output: bool, passed: Passed = passed) -> Tensor:
            """Sum over the texts and over each neuron's weights."""
            weight = linear.weight.detach().float()
            bias = linear.bias
            total = per_neuron(torch.zeros_like(weight), None, is_output)
            if linear not in passed:
                return total
            inputs, gradients = passed[linear]
            for x, g in zip(inputs, gradients, strict=True):  # text by text
                weight_changes = (weight * (g.T @ x)).square()
                bias_changes = None if bias is None else (bias.detach().float() * g.sum(0)).square()
                total += per_neuron(weight_changes, bias_changes, is_output)
            return total

        for block in blocks:
            totals.add(block.name.site, of_block(block, squared_changes)[None])
        texts += len(batch["labels"])
    return totals.means(texts)


def _inputs_and_gradients(
    model: SoftPromptModel,
    batch: Batch,
    linears: list[nn.Linear],
    goal: Callable[[Tensor, Tensor], Tensor],
) -> Passed:
    """Inputs [B, T, in] of every linear in use, and gradients of the goal in its outputs.

    The gradient of padding is zero. The rows that a decoder may have per label count as further
    positions of their text.
    """
    taps = {}
    for i, linear in enumerate(linears):
        taps[f"{i}.in"] = Tap(linear, before=True)
        taps[f"{i}.out"] = Tap(linear, before=False)
    with torch.enable_grad(), observe(model, taps) as activations:
        reached = goal(logits(model, batch), batch["labels"]).sum()
        # A linear that was cut away, or that of a decoder which no readout asks, has none.
        used = [i for i in range(len(linears)) if {f"{i}.in", f"{i}.out"} <= activations.keys()]
        gradients = torch.autograd.grad(reached, [activations[f"{i}.out"] for i in used])

    def split_texts(x: Tensor) -> Tensor:
        return x.detach().float().reshape(len(batch["labels"]), -1, x.shape[-1])

    passed: Passed = {}
    for i, gradient in zip(used, gradients, strict=True):
        passed[linears[i]] = (split_texts(activations[f"{i}.in"]), split_texts(gradient))
    return passed
