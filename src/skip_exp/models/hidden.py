"""What the layers of the encoder make of a text: one vector a layer, the mean over its tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from skip_exp.models.hooks import hooked
from skip_exp.models.soft_prompt import SoftPromptModel


@contextmanager
def layer_states(model: SoftPromptModel) -> Iterator[list[Tensor]]:
    """Within the block, a forward pass fills a list: what leaves each encoder layer [B, T, H]."""
    states: list[Tensor] = []

    def store(_module: Any, _inputs: Any, out: Any) -> None:
        states.append(out[0] if isinstance(out, tuple) else out)

    layers: Any = model.family.layers(model.backbone)[0]
    with hooked(layer.register_forward_hook(store) for layer in layers):
        yield states


def text_means(states: list[Tensor], attention_mask: Tensor) -> Tensor:
    """Means [B, layers, H] over the text's own tokens, in fp32: neither prompt nor padding.

    Args:
        states: of :func:`layer_states`; virtual positions come first. With the `mlm` readout, whose
            [MASK] stands behind the first token, it is counted in that one's place.
        attention_mask: 0/1 [B, T] of the text.
    """
    real = attention_mask[..., None].float()
    total = [(x[:, -real.shape[1] :].float() * real).sum(1) for x in states]
    return torch.stack(total, 1) / real.sum(1, keepdim=True)


def layers_left(model: SoftPromptModel) -> list[int]:
    """Encoder layers that still have neurons, and the last one, which the readout reads.

    What vanished hands on what it was given: held to the dense layer's state, it would ask the
    layers before it for another depth's.
    """
    encoder = [block for block in model.blocks() if block.name.stack == "encoder"]
    left = {block.name.layer for block in encoder if block.output.in_features}
    return sorted(left | {encoder[-1].name.layer})
