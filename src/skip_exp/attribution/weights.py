"""Which weights belong to a neuron: those that surgery removes with it."""

from collections.abc import Callable
from functools import reduce
from operator import add

from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Block
from skip_exp.models.sites import Relevance


def per_neuron(weight: Tensor, bias: Tensor | None, is_output: bool) -> Tensor:
    """Sum values in the shapes of a linear's weight and bias over each neuron's share, giving [n].

    A neuron owns a column of an output (or down) projection, whose bias belongs to no neuron, and a
    row and its bias of any other linear.
    """
    if is_output:
        return weight.sum(0)
    return weight.sum(1) if bias is None else weight.sum(1) + bias


def by_site(block: Block, sums: Callable[[nn.Linear, bool], Tensor]) -> Relevance:
    """Add up the sums of the linears of a block for each of its sites.

    A query/key dim owns its rows of both layers, a value/output dim its value row and its output
    column, a head all of its dims.

    Args:
        sums: (linear, whether it is the output projection) -> [n], see :func:`per_neuron`.
    """
    site, output = block.name.site, sums(block.output, True)
    if not isinstance(block, AttentionBlock):
        return {site("ffn"): reduce(add, [sums(up, False) for up in block.up]) + output}
    a = block.attention
    query, key, value = (sums(linear, False) for linear in a.projections())
    qk = (query + key).view(a.heads, a.qk_group, a.qk_dim // a.qk_group).sum(1)
    vo = (value + output).view(a.heads, a.vo_dim)
    return {site("heads"): qk.sum(1) + vo.sum(1), site("qk"): qk, site("vo"): vo}
