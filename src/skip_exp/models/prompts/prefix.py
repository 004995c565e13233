"""Prefix prompts (P-tuning v2, Liu et al. 2021): keys and values of every self-attention layer.

At inference they are constants that need no query and no FFN. They start from the keys and values
that the backbone itself computes for the start's tokens (Li & Liang 2021 found real activations to
start far better than random ones).
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Family, HFModel
from skip_exp.models.hooks import hooked
from skip_exp.models.prompts.base import SoftPrompt
from skip_exp.models.sites import Keep, Sublayer


class PrefixPrompt(SoftPrompt):
    """Virtual keys and values [length, heads, dims], one pair per attention block named."""

    def __init__(self, names: list[Sublayer], keys: list[Tensor], values: list[Tensor]) -> None:
        super().__init__()
        self.names = names
        self.keys = nn.ParameterList(nn.Parameter(k.clone()) for k in keys)
        self.values = nn.ParameterList(nn.Parameter(v.clone()) for v in values)

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        blocks = [
            b
            for b in family.blocks(model)
            if isinstance(b, AttentionBlock)
            and b.name.part == "self"
            and (decoder or b.name.stack == "encoder")
        ]
        if ids is None:
            sizes = [(length, b.attention.heads, b.attention.qk_dim) for b in blocks]
            keys, values = ([torch.zeros(size) for size in sizes] for _ in range(2))
        else:
            words = model.get_input_embeddings().weight.detach()
            keys, values = _activations(model, family, blocks, words[ids])
        return cls([b.name for b in blocks], keys, values)

    @property
    def length(self) -> int:
        return self.keys[0].shape[0]

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        pairs = dict(zip(self.names, zip(self.keys, self.values, strict=True), strict=True))
        for name, block in blocks.items():  # at once: another thread may be answering
            block.attention.prefix = pairs.get(name)

    def cut(self, keep: Keep) -> None:
        for i, name in enumerate(self.names):
            for parameters, kind in ((self.keys, "qk"), (self.values, "vo")):
                kept = cut_heads(parameters[i].detach(), keep, name, kind)
                parameters[i] = nn.Parameter(kept.contiguous())


def cut_heads(x: Tensor, keep: Keep, block: Sublayer, kind: str) -> Tensor:
    """The kept part of ``x`` [length, heads, dims]: dims of each head first, then whole heads."""
    dims = keep.get(block.site(kind))
    if dims is not None:
        x = x.gather(2, dims.to(x.device)[None].expand(x.shape[0], -1, -1))
    heads = keep.get(block.site("heads"))
    return x if heads is None else x[:, heads.to(x.device)]


@torch.no_grad()
def _activations(
    model: HFModel, family: Family, blocks: list[AttentionBlock], embeds: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values [length, heads, dim] that ``blocks`` compute for ``embeds`` [length, H]."""
    projected: dict[nn.Linear, Tensor] = {}

    def store(linear: nn.Linear, _inputs: Any, out: Tensor) -> None:
        projected[linear] = out[0]

    for block in blocks:
        block.attention.prefix = None
    linears = [block.attention.projections() for block in blocks]
    with hooked(x.register_forward_hook(store) for three in linears for x in three):
        hidden = family.encode(model, embeds[None], None, None)
        if any(b.name.stack == "decoder" for b in blocks):
            family.decode(model, embeds[None], None, hidden, None)
    keys, values = (
        [
            projected[three[i]].unflatten(1, (block.attention.heads, -1))
            for three, block in zip(linears, blocks, strict=True)
        ]
        for i in (1, 2)
    )
    return keys, values
