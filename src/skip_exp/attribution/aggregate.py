"""Sums of scores over positions and texts, and of weights over those that a neuron owns."""

from collections.abc import Callable
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from skip_exp.attribution.observe import Tap
from skip_exp.models.family import AttentionBlock, Block
from skip_exp.models.shapes import shapes_of, site_sizes
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


class Totals:
    """Sums over the texts for every site of a model; zero at empty sites."""

    def __init__(self, model: SoftPromptModel) -> None:
        # Double precision: the order and size of the batches must not matter.
        self.sums: Relevance = {
            site: torch.zeros(size, dtype=torch.float64)
            for site, size in site_sizes(shapes_of(model)).items()
        }

    def add(self, site: str, rows: Tensor) -> None:
        """Add ``rows`` [R, n] to the sums of a site."""
        total = rows.double().sum(0)
        self.sums[site] = self.sums[site].to(total.device) + total  # moves with the first batch

    def add_positions(
        self, tap: Tap, values: Tensor, texts: int, mask: Tensor | None, tokens: str, sign: str
    ) -> None:
        """Add the values of a tap to its site.

        Args:
            values: per position, [R, T, n] or [R, T, heads, dims].
            texts: how many they are of.
            mask: real positions, from :func:`observe.token_mask`.
            tokens: aggregation over the real positions: ``max``, ``mean`` or ``sum``.
            sign: ``signed``, ``absolute`` (per position), or ``text`` (of the aggregate).
        """
        x = tap.by_neuron(values)
        x = x.abs() if sign == "absolute" else x
        of_texts = sum_rows(over_tokens(x, mask, tokens), texts)
        self.add(tap.sublayer.site, of_texts.abs() if sign == "text" else of_texts)

    def means(self, texts: int) -> Relevance:
        """Divide by the number of texts; fp32 on the CPU."""
        return {site: (total / texts).float().cpu() for site, total in self.sums.items()}


def sum_rows(values: Tensor, texts: int) -> Tensor:
    """Sum [R, ...] over the rows that a decoder may have per text, one a label: [texts, ...]."""
    return values.unflatten(0, (texts, -1)).sum(1)


def over_tokens(scores: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Aggregate [R, T, n] over the real positions of T, giving [R, n].

    ``mask`` is [R, T], or [B, T] if several rows share a text. Padding never counts: a padded zero
    would raise a maximum of negative scores.
    """
    if mask is None:
        mask = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    elif len(mask) != len(scores):  # several decoder rows per text
        mask = mask.repeat_interleave(len(scores) // len(mask), 0)
    real = mask[..., None]
    if how == "max":
        return scores.masked_fill(~real, float("-inf")).amax(1)
    total = (scores * real).sum(1)
    return total if how == "sum" else total / real.sum(1)


def per_neuron(weight: Tensor, bias: Tensor | None, is_output: bool) -> Tensor:
    """Sum values in the shapes of a linear's weight and bias over each neuron's share, giving [n].

    A neuron owns a column of an output (or down) projection, whose bias belongs to no neuron, and a
    row and its bias of any other linear.
    """
    if is_output:
        return weight.sum(0)
    return weight.sum(1) if bias is None else weight.sum(1) + bias


def of_block(block: Block, sums: Callable[[nn.Linear, bool], Tensor]) -> Tensor:
    """Add up the sums of the linears of a block by neuron; a head owns all of its dims.

    Args:
        sums: (linear, whether it is the output projection) -> [n], see :func:`per_neuron`.

    Returns:
        [units] or [heads].
    """
    output = sums(block.output, True)
    if not isinstance(block, AttentionBlock):
        return reduce(add, [sums(up, False) for up in block.up]) + output
    query, key, value = (sums(linear, False) for linear in block.attention.projections())
    per_head = block.attention.heads, block.attention.head_dim
    return (query + key).view(per_head).sum(1) + (value + output).view(per_head).sum(1)
