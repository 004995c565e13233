"""Layers with 8-bit weights in the place of a model's linears and embeddings, to be traced.

A linear layer multiplies unsigned 8-bit activations by signed 8-bit weights. The activations have
one scale for all texts, so that an answer does not depend on its neighbours. A few channels are
much larger than the others, hence each is first divided by s = max|x|^a / max|w|^(1 - a), and its
weights are multiplied by s (SmoothQuant, Xiao et al. 2023). The maxima of x are measured on train
rows. What attention has averaged over tokens is even enough without. A weight has a scale per
output unit, an embedding one per word.

Weights use seven bits, so that a pair of products fits the 16 bits in which processors without VNNI
add them. Activations keep all eight bits, because their tails are larger.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from skip_exp.models.family import replace
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.ranges import Ranges

ACTIVATION, WEIGHT, EMBEDDING = 127, 63, 127  # largest absolute integers
SMOOTHING = 0.75  # a
SMALLEST = 1e-12  # the least scale, for what is always zero
RAREST = 0.01  # a channel counts as if it reached this part of the largest one


def round_model(model: SoftPromptModel, ranges: Ranges) -> None:
    """Put 8-bit layers in the place of the linears in ``ranges`` and all embeddings, in place."""
    linears = {name: model.backbone.get_submodule(name) for name in ranges}
    even = [block.output for block in model.blocks() if block.attention is not None]
    by: dict[nn.Module, nn.Module] = {}
    for name, linear in linears.items():
        # Layers with the same input share its integers: query, key and value.
        alike = [each for key, each in linears.items() if torch.equal(ranges[key], ranges[name])]
        weights = None if linear in even else torch.cat([each.weight for each in alike])
        by[linear] = RoundedLinear(linear, ranges[name], weights)
    for module in model.backbone.modules():
        if isinstance(module, nn.Embedding):
            by[module] = RoundedEmbedding(module)
    replace(model.backbone, by)


class RoundedLinear(nn.Module):
    """``linear`` as ONNX Runtime's product of 8-bit integers.

    Args:
        largest: absolute value of each input channel [in].
        weights: of all layers with this input [any, in]; None: it is not smoothed.
    """

    @torch.no_grad()
    def __init__(self, linear: nn.Linear, largest: Tensor, weights: Tensor | None) -> None:
        super().__init__()
        largest = largest.float()
        largest = largest.clamp_min(RAREST * largest.max()).clamp_min(SMALLEST)
        smooth = torch.ones_like(largest)
        if weights is not None:
            size = weights.abs().amax(0).clamp_min(SMALLEST)
            smooth = largest**SMOOTHING / size ** (1 - SMOOTHING)
        self.inverse = None if weights is None else nn.Buffer(1 / smooth)
        weight, scale = round_rows(linear.weight * smooth, WEIGHT)
        units = len(weight)
        self.weight, self.scale = nn.Buffer(weight.T.contiguous()), nn.Buffer(scale[:, 0])
        self.zero = nn.Buffer(torch.zeros(units, dtype=torch.int8))
        self.bias = nn.Buffer(torch.zeros(units) if linear.bias is None else linear.bias.data)
        self.step = nn.Buffer((largest / smooth).max() / ACTIVATION)
        self.middle = nn.Buffer(torch.tensor(ACTIVATION + 1, dtype=torch.uint8))  # stands for 0

    def forward(self, x: Tensor) -> Tensor:
        whole = symbolic(
            "QuantizeLinear",
            (x if self.inverse is None else x * self.inverse, self.step, self.middle),
            dtype=torch.uint8,
            shape=x.shape,
            version=20,
        )
        return symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            (whole, self.weight, self.step, self.scale, self.middle, self.zero, self.bias),
            dtype=torch.float32,
            shape=(*x.shape[:-1], len(self.bias)),
            version=1,
        )


class RoundedEmbedding(nn.Module):
    """``embedding`` with its rows as 8-bit integers and a scale for each."""

    @torch.no_grad()
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        weight, scale = round_rows(embedding.weight, EMBEDDING)
        self.weight, self.scale = nn.Buffer(weight), nn.Buffer(scale)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float() * F.embedding(ids, self.scale)


def round_rows(matrix: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """``matrix`` [n, m] as int8 of at most ``largest``, and the scale of each row [n, 1]."""
    scale = matrix.abs().amax(1, keepdim=True).clamp_min(SMALLEST) / largest
    return (matrix / scale).round().to(torch.int8), scale
