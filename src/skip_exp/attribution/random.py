"""Random relevance: the control that every method has to beat. Costs no pass at all."""

from collections.abc import Iterable

import torch
from torch import Tensor

from skip_exp.attribution.observe import Relevance
from skip_exp.models.families import AttentionBlock
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(
    model: SoftPromptModel, batches: Iterable[dict[str, Tensor]], *, seed: int = 0
) -> Relevance:
    """Uniform random scores in the shapes of :func:`activation_gradient.scores`."""
    generator = torch.Generator().manual_seed(seed)
    relevance: Relevance = {}
    for block in model.blocks():
        if isinstance(block, AttentionBlock):
            a = block.attention
            shapes = {"heads": (a.heads,), "qk": (a.heads, a.qk_dim), "vo": (a.heads, a.vo_dim)}
            for kind, shape in shapes.items():
                relevance[f"{block.name}.{kind}"] = torch.rand(shape, generator=generator)
        else:
            relevance[block.name] = torch.rand(block.down.in_features, generator=generator)
    return relevance
