"""Random relevance: the control that every method has to beat. It needs no pass."""

from collections.abc import Iterable

import torch

from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of, site_sizes


def scores(model: SoftPromptModel, batches: Iterable[Batch], *, seed: int = 0) -> Relevance:
    """Draw uniform random scores in the shapes of :func:`activation_gradient.scores`."""
    generator = torch.Generator().manual_seed(seed)
    sizes = site_sizes(shapes_of(model))
    return {site: torch.rand(size, generator=generator) for site, size in sizes.items()}
