"""Integrated gradients along a layer's activations (Sundararajan et al. 2017, equation 1).

One activation at a time is scaled from zero to its value while everything else follows:
A_i = h_i * integral over a in [0, 1] of dP/dh_i at a * h. Over a layer the scores of a text add up
to P(y|P,x) minus P with that layer's activation at zero. Dai et al. (2022, Knowledge Neurons) score
FFN units in this way. Captum's ``LayerIntegratedGradients`` with a baseline of zero and its default
Gauss-Legendre quadrature gives the same numbers. Sites as in ``activation_gradient``.

Cost: each step of each of a layer's two activations (context, FFN units) takes a forward pass and
the part of a backward pass above it. With 16 steps that is about 64 forward passes per layer.
"""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from skip_exp.attribution.observe import (
    Tap,
    Totals,
    logits,
    observe,
    replace_activation,
    taps,
    token_mask,
)
from skip_exp.attribution.target import true_label
from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    tokens: str = "max",
    sign: str = "signed",
    target: str = "probability",
    temperature: float = 1.0,
    steps: int = 16,
    micro_batch: int = 64,
) -> Relevance:
    """Score every neuron by integrated gradients.

    Other arguments and result as in :func:`activation_gradient.scores`.

    Args:
        steps: points of the quadrature.
        micro_batch: rows (texts x steps) of one pass, which bounds the memory; at least the texts
            of one batch.
    """
    goal = partial(true_label, target=target, temperature=temperature)
    taps_by_name = taps(model)
    totals = Totals(model)
    texts = 0
    for batch in batches:
        count = len(batch["labels"])
        at_once = max(1, micro_batch // count)
        with torch.no_grad(), observe(model, taps_by_name) as activations:
            logits(model, batch)
        for name, activation in activations.items():
            h = activation.detach()
            mean = _mean_gradient(model, batch, taps_by_name[name], h, goal, steps, at_once)
            mask = token_mask(model, taps_by_name[name], batch["attention_mask"])
            totals.add_positions(taps_by_name[name], h.float() * mean, count, mask, tokens, sign)
        texts += count
    return totals.means(texts)


def _mean_gradient(
    model: SoftPromptModel,
    batch: Batch,
    tap: Tap,
    h: Tensor,
    goal: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    at_once: int,
) -> Tensor:
    """Mean of the gradient at a * h over a in [0, 1], ``at_once`` steps a pass: shape of ``h``."""
    nodes = np.stack(np.polynomial.legendre.leggauss(steps))
    nodes[0] += 1  # from [-1, 1] to [0, 1]
    points, weights = torch.tensor(nodes / 2, dtype=torch.float32).to(h.device)
    mean = torch.zeros_like(h, dtype=torch.float32)
    for a, w in zip(points.split(at_once), weights.split(at_once), strict=True):
        # The steps of a pass are rows of one batch, each of all texts.
        rows = {name: torch.cat([x] * len(a)) for name, x in batch.items()}
        scaled = torch.cat([h * one for one in a]).requires_grad_()
        with torch.enable_grad(), replace_activation(tap, scaled):
            (gradient,) = torch.autograd.grad(
                goal(logits(model, rows), rows["labels"]).sum(), scaled
            )
        mean += torch.tensordot(w, gradient.float().unflatten(0, (len(a), -1)), 1)
    return mean
