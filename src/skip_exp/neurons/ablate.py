"""Ablation: neurons answer zero, or their mean, and the task is scored again without training.

The protocol is that of Wang et al. (2022, "Finding Skill Neurons"): perturb the neurons by
relevance, beside a random control of equal size.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skip_exp.attribution.observe import Tap, logits, observe, taps, token_mask
from skip_exp.data.batches import Batch
from skip_exp.models.families.base import AttentionBlock, Block
from skip_exp.models.sites import Keep, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import attention_rows, cut, frozen

Means = dict[str, Tensor]  # by sublayer, of what enters its output projection [n]


def reverse(relevance: Relevance) -> Relevance:
    """Scores that are lowest where ``relevance`` is highest: the most relevant goes first."""
    return {site: -scores for site, scores in relevance.items()}


@torch.no_grad()
def means(model: SoftPromptModel, batches: Iterable[Batch]) -> Means:
    """The mean activation of every neuron over the real positions, those of a prompt too.

    Example:
        >>> means(model, batches)["encoder.0.ffn"].shape
        torch.Size([1536])
    """
    totals: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    read: dict[str, Tap] = {
        tap.sublayer: tap for tap in taps(model).values() if tap.signal in ("units", "context")
    }
    for batch in batches:
        with observe(model, read) as seen:
            logits(model, batch)
        for name, x in seen.items():
            mask = token_mask(model, read[name], batch["attention_mask"])
            rows = x.detach().flatten(2)  # an attention's heads side by side
            rows = rows.flatten(0, 1) if mask is None else rows[mask]
            totals[name] = totals.get(name, 0) + rows.double().sum(0)
            counts[name] = counts.get(name, 0) + len(rows)
    return {name: (total / counts[name]).float() for name, total in totals.items()}


def without(dense: SoftPromptModel, keep: Keep, answer: Means | None = None) -> SoftPromptModel:
    """A copy of ``dense`` in which all but ``keep`` answers zero, or its mean ``answer``.

    A removed neuron that always answers m adds the constant ``m * W_out`` to the hidden state, so
    its mean goes into the bias of the output projection and the neuron is cut like any other.

    Example:
        >>> model = without(dense, keep, means(dense, batches))
    """
    smaller = cut(dense, keep)
    if answer is not None:
        for whole, left in zip(dense.blocks(), smaller.blocks(), strict=True):
            if (gone := _gone(whole, keep)).numel() and whole.name in answer:
                weight, bias = whole.output.weight.detach(), left.output.bias
                constant = weight[:, gone] @ answer[whole.name].to(weight)[gone]
                left.output.bias = frozen(constant if bias is None else bias.detach() + constant)
    return smaller


def _gone(block: Block, keep: Keep) -> Tensor:
    """Columns of the output projection whose neurons ``keep`` lacks."""
    output: nn.Linear = block.output
    every = torch.arange(output.in_features)
    if isinstance(block, AttentionBlock):
        kept = attention_rows(block, keep)[1]
    else:
        kept = keep.get(block.name.site("ffn"), every)
    return every[~torch.isin(every, kept)]
