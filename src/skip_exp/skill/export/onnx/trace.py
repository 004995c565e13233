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
def trace(model: SoftPromptModel, inputs: dict[str, Tensor], path: Path) -> None:
    """Write the graph of ``model`` in fp32, for ``inputs`` of any batch size and length."""
    model.prompt.install(model.attention_blocks())
    sizes: dict[int, Any] = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
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
    program.save(path, external_data=weights > PROTOBUF_LIMIT)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    model, inputs = torch.load(source, weights_only=False)  # written by the process that waits
    trace(model, inputs, target)
