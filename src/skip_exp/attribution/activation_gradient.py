"""Activation x gradient, the method of SKIP (Yang et al. 2024): A_i = h_i * dP(y|P,x)/dh_i.

Cost: one forward and one backward pass without weight gradients, about two to three forward passes
for all sites together.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from skip_exp.attribution.observe import Relevance, observe, over_tokens, token_mask
from skip_exp.errors import ConfigError
from skip_exp.models.soft_prompt import SoftPromptModel

TOKENS = ("max", "mean", "sum")
SIGNS = ("signed", "absolute")
TARGETS = ("probability", "log_probability")


def scores(
    model: SoftPromptModel,
    batches: Iterable[dict[str, Tensor]],
    *,
    tokens: str = "max",
    sign: str = "signed",
    target: str = "probability",
) -> Relevance:
    """Relevance of every neuron of every site.

    Args:
        model: the tuned model, on the device of the batches; left as it was.
        batches: ``input_ids``, ``attention_mask``, ``labels`` (and token types).
        tokens: aggregation over the real positions of a text: max, mean or sum.
        sign: signed, or absolute (taken per position, before the aggregation).
        target: gradient of the true label's probability, or of its logarithm.

    Returns:
        Means over the texts, fp32 on the CPU: ``<block>.ffn`` [units], ``<block>.heads`` [heads]
        (an attribution summed over the head's dims), ``.vo`` and ``.qk`` [heads, dim]
        (q * dP/dq + k * dP/dk).

    Raises:
        ConfigError: an option outside of its choices.
    """
    for key, value, allowed in (
        ("tokens", tokens, TOKENS),
        ("sign", sign, SIGNS),
        ("target", target, TARGETS),
    ):
        if value not in allowed:
            raise ConfigError(f"attribution.{key}", value, f"must be one of {', '.join(allowed)}")
    totals: dict[str, Tensor] = {}
    texts = 0
    for batch in batches:
        inputs = {k: v for k, v in batch.items() if k != "labels"}
        with torch.enable_grad(), observe(model) as seen:
            log_p = model(**inputs).log_softmax(-1).gather(1, batch["labels"][:, None])
            goal = log_p if target == "log_probability" else log_p.exp()
            gradients = torch.autograd.grad(goal.sum(), list(seen.values()))
        for (name, h), g in zip(seen.items(), gradients, strict=True):
            product = h.detach().float() * g.float()
            mask = token_mask(model, name, batch["attention_mask"])
            for site, x in _sites(name, product):
                x = x.abs() if sign == "absolute" else x
                summed = over_tokens(x.flatten(2), mask, tokens).double().sum(0).view(x.shape[2:])
                totals[site] = totals.get(site, 0) + summed.cpu()
        texts += len(batch["labels"])
    return {site: (total / texts).float() for site, total in totals.items()}


def _sites(name: str, product: Tensor) -> list[tuple[str, Tensor]]:
    """An observed activation's share in each site: [R, T, n] or [R, T, heads, dim]."""
    block, _, kind = name.rpartition(".")
    if kind == "vo":
        return [(name, product), (f"{block}.heads", product.sum(3))]
    return [(f"{block}.qk" if kind in ("q", "k") else name, product)]
