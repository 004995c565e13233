"""Hidden states of the encoder: one vector per layer and text, the mean over its tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from skip_exp.models.families.base import hooked
from skip_exp.models.soft_prompt import SoftPromptModel


@contextmanager
def layer_states(model: SoftPromptModel) -> Iterator[list[Tensor]]:
    """Within the block, a forward pass fills a list with each encoder layer's output [B, T, H]."""
    states: list[Tensor] = []

    def store(_module: Any, _inputs: Any, out: Any) -> None:
        states.append(out[0] if isinstance(out, tuple) else out)

    layers: Any = model.family.layers(model.backbone)[0]
    with hooked(layer.register_forward_hook(store) for layer in layers):
        yield states


def text_means(states: list[Tensor], attention_mask: Tensor) -> Tensor:
    """Average hidden states over each text's own tokens, without prompt or padding.

    Args:
        states: from :func:`layer_states`; virtual positions come first. With the `mlm` readout the
            [MASK] behind the first token counts in that token's place.
        attention_mask: 0/1 mask [B, T] of the text.

    Returns:
        Means [B, layers, H] in fp32.
    """
    real = attention_mask[..., None].float()
    total = [(x[:, -real.shape[1] :].float() * real).sum(1) for x in states]
    return torch.stack(total, 1) / real.sum(1, keepdim=True)


def layers_left(model: SoftPromptModel) -> list[int]:
    """List the encoder layers that still have neurons, and the last, which the readout reads.

    A layer without neurons returns its input. Matching it to the dense layer's state would train
    the layers before it towards the state of another depth.
    """
    encoder = [block for block in model.blocks() if block.name.stack == "encoder"]
    left = {block.name.layer for block in encoder if block.output.in_features}
    return sorted(left | {encoder[-1].name.layer})
