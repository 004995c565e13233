"""Which weights belong to a neuron: what surgery removes together with it."""

from dataclasses import dataclass

from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Block
from skip_exp.models.sites import Relevance


@dataclass(frozen=True)
class Part:
    """A linear layer of a block; a neuron owns one row (and its bias) or one column of it."""

    linear: nn.Linear
    rows: bool

    def per_neuron(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Sums [n] of values in the shapes of the layer's weight and bias over what a neuron owns.

        The bias of an output projection belongs to no neuron.
        """
        if not self.rows:
            return weight.sum(0)
        return weight.sum(1) if bias is None else weight.sum(1) + bias


def parts(block: Block) -> list[Part]:
    """FFN: the up projections, then down. Attention: query, key, value, output."""
    if isinstance(block, AttentionBlock):
        into = [Part(linear, True) for linear in block.attention.projections()]
        return [*into, Part(block.output, False)]
    return [*(Part(up, True) for up in block.up), Part(block.down, False)]


def by_site(block: Block, sums: list[Tensor]) -> Relevance:
    """Sums of each of :func:`parts`, put together for the block's sites.

    A query/key dim owns its rows of both layers, a value/output dim its value row and its output
    column, a head all of its dims.
    """
    site = block.name.site
    if not isinstance(block, AttentionBlock):
        return {site("ffn"): sum(sums[1:], sums[0])}
    a = block.attention
    query, key, value, output = sums
    qk = (query + key).view(a.heads, a.qk_dim)
    vo = (value + output).view(a.heads, a.vo_dim)
    heads = qk.sum(1) + vo.sum(1)
    return {site("heads"): heads, site("qk"): qk, site("vo"): vo}
