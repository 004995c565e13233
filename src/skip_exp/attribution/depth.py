"""Layer truncation: the last layers go first, for every task (Sajjad et al. 2023, top layers).

The control for "keep the first layers": relevance falls with depth and needs no data. A neuron
counts by its parameters, so the last of k of L layers is removed before the next is touched,
whether kinds are ranked apart or together. Depth is relative to the stack, so a T5's encoder and
decoder lose the same fraction. The rest of a ratio takes the first neurons of the next layer.
Output biases and norms of a removed layer stay; ``prune.layers`` removes them, too.
"""

from collections import Counter
from collections.abc import Iterable

import torch

from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of


def scores(model: SoftPromptModel, batches: Iterable[Batch]) -> Relevance:
    """Score every neuron of layer i of L by (1 - i / L) x the parameters that go with it.

    Layers that are gone count in L, too. ``batches`` are not read. Shapes as in
    :func:`activation_gradient.scores`.
    """
    sizes = shapes_of(model)
    layers = Counter(shape.name.stack for shape in sizes if shape.name.part == "ffn")
    relevance: Relevance = {}
    for shape in sizes:
        above = 1 - shape.name.layer / layers[shape.name.stack]
        relevance[shape.name.site] = torch.full((shape.units,), above * shape.cost)
    return relevance
