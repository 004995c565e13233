"""Integrated gradients along a layer's activations (Sundararajan et al. 2017, equation 1).

One activation at a time is scaled from zero to its value while everything else follows:
A_i = h_i * integral over a in [0, 1] of dP/dh_i at a * h. Over a layer the scores of a text add up
to P(y|P,x) minus P with that layer's activation at zero. Dai et al. (2022, Knowledge Neurons) score
FFN units this way; Captum's ``LayerIntegratedGradients`` with a baseline of zero and its default
Gauss-Legendre quadrature gives the same numbers. Sites as in ``activation_gradient``.

Cost: for each of the four activations of a layer (queries, keys, context, FFN units) and each step
a forward pass, and the part of a backward pass above it: about two forward passes, so 128 per layer
with 16 steps.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from skip_exp.attribution.aggregate import Totals, check, check_positive
from skip_exp.attribution.observe import (
    Tap,
    logits,
    observe,
    replaced,
    taps,
    token_mask,
    true_label,
)
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel,
    batches: Iterable[Batch],
    *,
    tokens: str = "max",
    sign: str = "signed",
    target: str = "probability",
    steps: int = 16,
    micro_batch: int = 64,
) -> Relevance:
    """Relevance of every neuron of every site.

    Args:
        model, batches, tokens, sign, target: as in :func:`activation_gradient.scores`.
        steps: points of the quadrature.
        micro_batch: rows (texts x steps) of one pass, which bounds the memory; never less than
            the texts of one batch.

    Returns:
        As :func:`activation_gradient.scores`.

    Raises:
        ConfigError: an option outside of its choices, or below 1.
    """
    for name, value in {"tokens": tokens, "sign": sign, "target": target}.items():
        check(name, value)
    for name, number in {"steps": steps, "micro_batch": micro_batch}.items():
        check_positive(name, number)
    taps_by_name, totals, texts = taps(model), Totals(model), 0
    for batch in batches:
        at_once = max(1, micro_batch // len(batch["labels"]))
        with torch.no_grad(), observe(model, taps_by_name) as activations:
            logits(model, batch)
        for name, activation in activations.items():
            h = activation.detach()
            mean = _mean_gradient(model, batch, taps_by_name[name], h, target, steps, at_once)
            mask = token_mask(model, taps_by_name[name], batch["attention_mask"])
            totals.add_positions(taps_by_name[name], h.float() * mean, mask, tokens, sign)
        texts += len(batch["labels"])
    return totals.means(texts)


def _mean_gradient(
    model: SoftPromptModel,
    batch: Batch,
    tap: Tap,
    h: Tensor,
    target: str,
    steps: int,
    at_once: int,
) -> Tensor:
    """Mean of the gradient at a * h over a in [0, 1], ``at_once`` steps a pass: shape of ``h``."""
    points, weights = _gauss_legendre(steps, h)
    mean = torch.zeros_like(h, dtype=torch.float32)
    for a, w in zip(points.split(at_once), weights.split(at_once), strict=True):
        rows = {name: x.repeat(len(a), *[1] * (x.dim() - 1)) for name, x in batch.items()}
        scaled = torch.cat([h * one for one in a]).requires_grad_()
        with torch.enable_grad(), replaced(tap, scaled):
            goal = true_label(model, rows, target).sum()
            (gradient,) = torch.autograd.grad(goal, scaled)
        mean += torch.tensordot(w, gradient.float().unflatten(0, (len(a), -1)), 1)
    return mean


def _gauss_legendre(steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Points and weights of the quadrature over [0, 1]."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    both = torch.tensor(np.stack([points + 1, weights]) / 2, dtype=torch.float32)
    return both[0].to(like.device), both[1].to(like.device)
