"""The full-size control of a cut model: the removed neurons are set to zero, not removed."""

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import attention_rows, frozen


def zero(model: SoftPromptModel, keep: Keep) -> SoftPromptModel:
    """Build a full-size copy with the removed neurons zeroed: computes the same as ``cut``."""
    masked = model.copy()
    for block in masked.blocks():
        if isinstance(block, AttentionBlock):
            query, _, _ = block.attention.projections()
            rows_qk, rows_vo = attention_rows(block, keep)
            _zero_rows(query, rows_qk)
            _zero_columns(block.output, rows_vo)
        elif (units := keep.get(block.name.site("ffn"))) is not None:
            _zero_columns(block.down, units)
    return masked


def _zero_rows(linear: nn.Linear, kept: Tensor) -> None:
    mask = torch.zeros(linear.out_features, 1, device=linear.weight.device)
    mask[kept] = 1
    linear.weight = frozen(linear.weight.detach() * mask)
    if linear.bias is not None:
        linear.bias = frozen(linear.bias.detach() * mask[:, 0])


def _zero_columns(linear: nn.Linear, kept: Tensor) -> None:
    mask = torch.zeros(linear.in_features, device=linear.weight.device)
    mask[kept] = 1
    linear.weight = frozen(linear.weight.detach() * mask)
