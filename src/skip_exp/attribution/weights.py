"""Which weights belong to a neuron: those that surgery removes with it."""

from collections.abc import Callable
from functools import reduce
from operator import add

from torch import Tensor, nn

from skip_exp.models.family import AttentionBlock, Block


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
