"""The full-size control of a cut model: the removed neurons are set to zero, not removed."""

import torch
from torch import nn

from skip_exp.models.family import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shape_of


def zero(model: SoftPromptModel, keep: Keep) -> SoftPromptModel:
    """Build a full-size copy with the removed neurons zeroed: computes the same as ``cut``.

    It shares no code with ``cut``, so that tests can compare the two.
    """
    masked = model.copy()
    for block in masked.blocks():
        kept, linear, units = keep.get(block.name.site), block.output, shape_of(block).units
        if kept is None or not units:
            continue
        mask = torch.zeros(units).index_fill(0, kept, 1.0).to(linear.weight.device)
        columns = mask.repeat_interleave(linear.in_features // units)
        linear.weight = nn.Parameter(linear.weight.detach() * columns, requires_grad=False)
    return masked
