"""The full-size control of a cut model: the removed neurons are set to zero, not removed."""

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel


def zero(model: SoftPromptModel, keep: Keep) -> SoftPromptModel:
    """Build a full-size copy with the removed neurons zeroed: computes the same as ``cut``.

    It shares no code with ``cut``, so that tests can compare the two.
    """
    masked = model.copy()
    for block in masked.blocks():
        site = block.name.site
        if not isinstance(block, AttentionBlock):
            _zero(block.down, _mask((block.down.in_features,), keep.get(site("ffn"))), dim=1)
            continue
        a = block.attention
        heads = _mask((a.heads,), keep.get(site("heads")))[:, None]
        neurons = _mask((a.heads, a.qk_dim // a.qk_group), keep.get(site("qk")))
        query_dims = heads * neurons.repeat(1, a.qk_group)
        value_dims = heads * _mask((a.heads, a.vo_dim), keep.get(site("vo")))
        _zero(a.projections()[0], query_dims.flatten(), dim=0)
        _zero(block.output, value_dims.flatten(), dim=1)
    return masked


def _mask(shape: tuple[int, ...], kept: Tensor | None) -> Tensor:
    """1 at the ``kept`` indices of each row, or everywhere for None."""
    return torch.ones(shape) if kept is None else torch.zeros(shape).scatter_(-1, kept, 1.0)


def _zero(linear: nn.Linear, mask: Tensor, dim: int) -> None:
    """Zero the output units (``dim`` 0, with their biases) or input units (1) not in ``mask``."""
    mask = mask.to(linear.weight.device)
    weight = linear.weight.detach() * mask.unsqueeze(1 - dim)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if dim == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach() * mask, requires_grad=False)
