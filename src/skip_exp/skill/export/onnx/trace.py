"""The program that traces a model into an ONNX graph, in a process of its own.

``torch.export`` changes how torch computes in its whole process: another thread that predicts there
would fail.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.export.onnx.int8 import round_model
from skip_exp.skill.ranges import Ranges

PROTOBUF_LIMIT = 2_000_000_000  # bytes of one ONNX file; larger weights get a file of their own


class Installed(nn.Module):
    """A model whose prompt is already installed, so that a prefix is a constant."""

    def __init__(self, model: SoftPromptModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.model.logits(input_ids, attention_mask, token_type_ids)


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
    weights = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers()))
    program = torch.onnx.export(
        Installed(model).eval(),
        (),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(inputs, sizes),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, with the paths of this machine
        # onnxruntime fuses an Add before a norm with it, to an operator that is five times slower.
        # A Sum is of floats alone.
        are_floats = str(node.outputs[0].dtype) == "FLOAT"
        if node.op_type == "Add" and are_floats and all(x and x.producer() for x in node.inputs):
            node.op_type = "Sum"
    program.save(path, external_data=weights > PROTOBUF_LIMIT)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    # Written by the process that waits.
    model, inputs, ranges = torch.load(source, weights_only=False)
    trace(model, inputs, ranges, target)
