"""Sizes of a model's sublayers: their neurons, and the parameters that go with each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from .family import AttentionBlock, Block
from .sites import Site, Sublayer


class Blocks(Protocol):
    """What has sublayers: a model."""

    def blocks(self) -> list[Block]: ...


@dataclass(frozen=True)
class Shape:
    """Sizes of one sublayer.

    Attributes:
        units: units of an FFN, or heads of an attention.
        rest: parameters that belong to no neuron, i.e. the output bias.
        cost: parameters that are removed with one neuron.
    """

    name: Sublayer
    units: int
    rest: int
    cost: int

    @property
    def parameters(self) -> int:
        """Parameters of the whole sublayer."""
        return self.rest + self.units * self.cost


def shape_of(block: Block) -> Shape:
    """Current sizes of a sublayer, after any cut."""
    output, *inner = block.linears()
    rest = 0 if output.bias is None else output.bias.numel()
    cost = sum(_per_unit(linear) for linear in inner) + output.out_features
    if isinstance(block, AttentionBlock):
        return Shape(block.name, block.attention.heads, rest, block.attention.head_dim * cost)
    return Shape(block.name, output.in_features, rest, cost)


def _per_unit(linear: nn.Linear) -> int:
    """Parameters of one output unit."""
    return linear.in_features + (linear.bias is not None)


def shapes_of(model: Blocks) -> list[Shape]:
    """Sizes of a model's sublayers, in order of execution."""
    return [shape_of(block) for block in model.blocks()]


def block_parameters(model: Blocks) -> int:
    """The parameters that pruning counts: of attention and feed-forward weights."""
    return sum(shape.parameters for shape in shapes_of(model))


def site_sizes(sizes: Sequence[Shape]) -> dict[Site, int]:
    """The number of neurons of every site of a model."""
    return {shape.name.site: shape.units for shape in sizes}


def keep_sizes(sizes: Sequence[Shape], keep: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """``{site: [kept, total]}`` for a keep of the model with these ``sizes``."""
    of = site_sizes(sizes)
    return {site: [len(kept), of[Site(site)]] for site, kept in keep.items()}
