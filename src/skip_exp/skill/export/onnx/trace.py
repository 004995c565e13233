"""Trace a model into an ONNX graph, and its layers of 8-bit integers.

``torch.export`` changes how torch computes in its whole process: another thread that predicts there
would fail. So models are traced in processes of their own.

In 8 bits other layers are traced in the place of the model's linears and embeddings.
A linear layer multiplies unsigned 8-bit activations by signed 8-bit weights. The activations have
one scale for all texts, so that an answer does not depend on its neighbours. A few channels are
much larger than the others, hence each is first divided by s = max|x|^a / max|w|^(1 - a), and its
weights are multiplied by s (SmoothQuant, Xiao et al. 2023). The maxima of x are measured on train
rows. What attention has averaged over tokens is even enough without. A weight has a scale per
output unit, an embedding one per word.

Weights use seven bits, so that a pair of products fits the 16 bits in which processors without VNNI
add them. Activations keep all eight bits, because their tails are larger.
"""

import os
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.ops import symbolic

from skip_exp.models.family import replace
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.ranges import Ranges

PROTOBUF_LIMIT = 2_000_000_000  # bytes of one ONNX file; larger weights get a file of their own
# Largest absolute integers.
ACTIVATION = 127
WEIGHT = 63
EMBEDDING = 127
SMOOTHING = 0.75  # a
SMALLEST = 1e-12  # the least scale, for what is always zero
RAREST = 0.01  # a channel counts as if it reached this part of the largest one


class Installed(nn.Module):
    """A model whose prompt is already installed, so that a prefix is a constant."""

    def __init__(self, model: SoftPromptModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.model.logits(input_ids, attention_mask, token_type_ids)


def say_nothing() -> None:
    """Close the standard streams of a process that traces: torch warns there of what it lacks."""
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)


@torch.no_grad()
def trace(
    model: SoftPromptModel, inputs: dict[str, Tensor], ranges: Ranges | None, path: Path
) -> None:
    """Write the graph of ``model`` for ``inputs`` of any batch size and length.

    Args:
        ranges: of the linears to round to 8 bits; None: the graph is in fp32.
    """
    model.prompt.install(model.attentions())
    model.set_attention("eager")  # fewer operators than the fused kernel becomes
    if ranges is not None:
        round_model(model, ranges)
    sizes: dict[int, Any] = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    weights = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    program: Any = torch.onnx.export(
        Installed(model).eval(),
        (),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(inputs, sizes),
        dynamo=True,
        verbose=False,
    )
    separate_sums(program.model.graph)
    program.save(path, external_data=weights > PROTOBUF_LIMIT)


def separate_sums(graph: Any) -> None:
    """Replace additions of floats, which onnxruntime fuses with norms: that is five times slower.

    A difference takes as long as an addition; a Sum is computed on one thread.
    """
    for node in graph:
        node.metadata_props.clear()  # stack traces, with the paths of this machine
        are_floats = str(node.outputs[0].dtype) == "FLOAT"
        if node.op_type == "Add" and are_floats and all(x and x.producer() for x in node.inputs):
            first, second = sorted(node.inputs, key=lambda x: x.producer().op_type == "Neg")
            node.op_type = "Sum"
            if second.producer().op_type == "Neg":
                node.op_type = "Sub"
                node.replace_input_with(0, first)
                node.replace_input_with(1, second.producer().inputs[0])
                graph.remove(second.producer(), safe=True)


def round_model(model: SoftPromptModel, ranges: Ranges) -> None:
    """Put 8-bit layers in the place of the linears in ``ranges`` and all embeddings, in place."""
    linears = {name: model.backbone.get_submodule(name) for name in ranges}
    blocks = model.blocks()
    outputs = [block.output for block in blocks]
    attention_outputs = [block.output for block in blocks if block.attention is not None]
    rounded: dict[nn.Module, nn.Module] = {}
    for name, linear in linears.items():
        # Layers with the same input share its integers: query, key and value.
        siblings = [other for other in ranges if torch.equal(ranges[other], ranges[name])]
        weights = [linears[other].weight for other in siblings]
        # What attention averaged over tokens is even enough: it is not smoothed.
        shared = None if linear in attention_outputs else torch.cat(weights)
        # A block's output is added to what entered the block.
        sign = -1 if linear in outputs else 1
        rounded[linear] = RoundedLinear(linear, ranges[name], shared, sign)
    for module in model.backbone.modules():
        if isinstance(module, nn.Embedding):
            rounded[module] = RoundedEmbedding(module)
    replace(model.backbone, rounded)


class RoundedLinear(nn.Module):
    """``linear`` as ONNX Runtime's product of 8-bit integers.

    Args:
        largest: absolute value of each input channel [in].
        weights: of all layers with this input [any, in]; None: it is not smoothed.
        sign: -1: the negative is computed, to be subtracted.
    """

    @torch.no_grad()
    def __init__(
        self,
        linear: nn.Linear,
        largest: Tensor,
        weights: Tensor | None,
        sign: int = 1,
    ) -> None:
        super().__init__()
        self.sign = sign
        largest = largest.float()
        largest = largest.clamp_min(RAREST * largest.max()).clamp_min(SMALLEST)
        smooth = torch.ones_like(largest)
        if weights is not None:
            size = weights.abs().amax(0).clamp_min(SMALLEST)
            smooth = largest**SMOOTHING / size ** (1 - SMOOTHING)
        self.inverse = None if weights is None else nn.Buffer(1 / smooth)
        weight, scale = round_rows(linear.weight * smooth, WEIGHT)
        self.weight = nn.Buffer(weight.T.contiguous())
        self.scale = nn.Buffer(sign * scale[:, 0])
        self.zero = nn.Buffer(torch.zeros(len(weight), dtype=torch.int8))
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.data
        self.bias = nn.Buffer(sign * bias)
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
        product = symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            (whole, self.weight, self.step, self.scale, self.middle, self.zero, self.bias),
            dtype=torch.float32,
            shape=(*x.shape[:-1], len(self.bias)),
            version=1,
        )
        return product if self.sign == 1 else -product


class RoundedEmbedding(nn.Module):
    """``embedding`` with its rows as 8-bit integers and a scale for each."""

    @torch.no_grad()
    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        weight, scale = round_rows(embedding.weight, EMBEDDING)
        self.weight = nn.Buffer(weight)
        self.scale = nn.Buffer(scale)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight).float() * F.embedding(ids, self.scale)


def round_rows(matrix: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """``matrix`` [n, m] as int8 of at most ``largest``, and the scale of each row [n, 1]."""
    scale = matrix.abs().amax(1, keepdim=True).clamp_min(SMALLEST) / largest
    return (matrix / scale).round().to(torch.int8), scale
