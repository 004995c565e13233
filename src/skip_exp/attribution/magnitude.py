"""Magnitude: the norm of all weights of a neuron (Li et al. 2017 for filters).

A neuron's weights are those that go with it: in and out of an FFN unit, all four projections of a
head, with their biases. The norm is L2, or L1 as in the paper. It needs no pass and no data.
"""

from collections.abc import Iterable

from torch import Tensor

from skip_exp.attribution.aggregate import check
from skip_exp.attribution.weights import Part, by_site, parts
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(model: SoftPromptModel, batches: Iterable[Batch], *, norm: int = 2) -> Relevance:
    """Relevance of every neuron, in the shapes of :func:`activation_gradient.scores`.

    Args:
        model: whose weights are read.
        batches: not read.
        norm: 1 or 2.

    Raises:
        ConfigError: another norm.
    """
    check("norm", norm)
    relevance: Relevance = {}
    for block in model.blocks():
        sums = by_site(block, [_powers(part, norm) for part in parts(block)])
        relevance |= {site: (x ** (1 / norm)).cpu() for site, x in sums.items()}
    return relevance


def _powers(part: Part, norm: int) -> Tensor:
    """Sum of |w|^norm over each neuron's weights: [neurons]."""
    weight, bias = part.linear.weight.detach().float(), part.linear.bias
    of_bias = None if bias is None else bias.detach().float().abs() ** norm
    return part.per_neuron(weight.abs() ** norm, of_bias)
