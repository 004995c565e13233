"""Magnitude: the norm of all weights of a neuron (Li et al. 2017 for filters).

A neuron's weights are those that go with it: in and out of an FFN unit, all four projections of a
head, with their biases. The norm is L2, or L1 as in the paper. It needs no pass and no data.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from skip_exp.attribution.observe import of_block, per_neuron
from skip_exp.data.batches import Batch
from skip_exp.models.family import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


def scores(model: SoftPromptModel, batches: Iterable[Batch], *, norm: int = 2) -> Relevance:
    """Score every neuron by the L1 or L2 norm of its weights; ``batches`` are not read.

    Shapes as in :func:`activation_gradient.scores`.
    """

    def powers(linear: nn.Linear, is_output: bool) -> Tensor:
        bias = None if linear.bias is None else linear.bias.detach().float().abs() ** norm
        return per_neuron(linear.weight.detach().float().abs() ** norm, bias, is_output)

    sums = {block.name.site: of_block(block, powers) for block in model.blocks()}
    return {site: (x ** (1 / norm)).cpu() for site, x in sums.items()}
