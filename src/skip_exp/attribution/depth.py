"""Layer truncation: the last layers go first, whatever the task (Sajjad et al. 2023, top layers).

The control for "keep the first layers": relevance falls with depth and reads no data. A neuron
counts by its parameters, so that the last of k of L layers is gone before the next is touched,
whether kinds are ranked apart or together. Depth is relative to the
stack: at k / L encoder and decoder of a T5 lose the same part. What is left of the ratio takes the
first neurons of the next layer. Of a layer that went BERT keeps its output biases and norms: see
``backbone.layers`` for a backbone without them.
"""

from collections import Counter
from collections.abc import Iterable

import torch

from skip_exp.data.batches import Batch
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(model: SoftPromptModel, batches: Iterable[Batch]) -> Relevance:
    """Relevance of every neuron, in the shapes of :func:`activation_gradient.scores`.

    Layer i of L, counted from 0: (1 - i / L) x the parameters that go with the neuron.

    Args:
        model: whose layers are counted; a layer that vanished in an earlier step counts, too.
        batches: not read.
    """
    sizes = model.shapes()
    layers = Counter(shape.name.stack for shape in sizes if shape.whole == "ffn")
    relevance: Relevance = {}
    for shape in sizes:
        above = 1 - shape.name.layer / layers[shape.name.stack]
        costs = {"qk": shape.qk_cost, "vo": shape.vo_cost}  # of one dim of one head
        for site, size in shape.sites().items():
            cost = costs.get(site.kind, shape.cost(site.kind))
            relevance[site] = torch.full(size, above * cost)
    return relevance
