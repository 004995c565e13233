"""The hidden state behind every sublayer: what a cut model should go on having."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from skip_exp.attribution.observe import logits
from skip_exp.data.batches import Batch
from skip_exp.models.families.base import Block, Stream
from skip_exp.models.soft_prompt import SoftPromptModel

Streams = dict[str, Tensor]  # by sublayer, the hidden state behind it [R, T, H]


@contextmanager
def caught(blocks: Iterable[Block], *, detach: bool = False) -> Iterator[Streams]:
    """Within the block, a forward pass fills {sublayer: hidden state behind it}.

    Args:
        detach: what goes on to later sublayers carries no gradient back.
    """
    found: Streams = {}
    handles: list[Any] = []
    try:
        for block in blocks:
            handles.append(_hook(block.stream, found, block.name, detach))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _hook(stream: Stream, found: Streams, name: str, detach: bool) -> Any:
    def catch(hidden: Tensor) -> Tensor:
        found[name] = hidden
        return hidden.detach() if detach else hidden

    def after(_module: Any, _inputs: Any, out: Any) -> Any:
        return (catch(out[0]), *out[1:]) if isinstance(out, tuple) else catch(out)

    if stream.before:
        return stream.module.register_forward_pre_hook(lambda _m, x: (catch(x[0]), *x[1:]))
    return stream.module.register_forward_hook(after)


@torch.no_grad()
def dense_streams(
    model: SoftPromptModel, names: Collection[str], batches: Sequence[Batch]
) -> list[Streams]:
    """For every batch, the hidden states of the dense ``model`` behind the sublayers ``names``.

    All of them are held: tokens x sublayers x hidden size x 4 bytes, 120 MB for 256 texts of 25
    tokens on minilm.
    """
    blocks = [block for block in model.blocks() if block.name in names]
    held = []
    for batch in batches:
        with caught(blocks) as found:
            logits(model, batch)
        held.append(found)
    return held


@torch.no_grad()
def behind(model: SoftPromptModel, block: Block, batch: Batch) -> tuple[Tensor, Tensor]:
    """What enters a block's output projection [R, T, n], and the hidden state [R, T, H] behind."""
    inputs: list[Tensor] = []
    handle = block.output.register_forward_pre_hook(lambda _m, x: inputs.append(x[0]))
    try:
        with caught([block]) as found:
            logits(model, batch)
    finally:
        handle.remove()
    return inputs[0], found[block.name]


def real(model: SoftPromptModel, block: Block, batch: Batch, hidden: Tensor) -> Tensor:
    """0/1 [R, T] of the positions of ``hidden`` [R, T, H] behind ``block`` that are no padding."""
    if block.name.stack == "encoder":
        return model.encoder_mask(batch["attention_mask"])
    decoded = model.readout.decoded(len(batch["attention_mask"]))
    return torch.ones_like(hidden[..., 0]) if decoded is None else decoded.to(hidden.dtype)
