"""Watching the activations of every site during one forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from skip_exp.models.families import AttentionBlock
from skip_exp.models.soft_prompt import SoftPromptModel

Relevance = dict[str, Tensor]


@contextmanager
def observe(model: SoftPromptModel) -> Iterator[dict[str, Tensor]]:
    """Within the block, a forward pass fills the dictionary that this yields.

    Its keys and shapes (rows R = batch, or batch x labels in a decoder of several steps):
    ``<ffn block>`` [R, T, units], the input of the down projection (the product, where gated);
    ``<attention block>.vo`` [R, T, heads, dim], the context that enters the output projection;
    ``<attention block>.q`` and ``.k`` [R, T, heads, dim], the projected queries and keys.

    All of them are on the autograd graph, whatever is frozen. The hooks are gone afterwards, after
    an error too.
    """
    seen: dict[str, Tensor] = {}
    handles = []

    def on_input(linear: nn.Linear, name: str, heads: int | None) -> None:
        def hook(_m: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (_store(seen, name, inputs[0], heads),)

        handles.append(linear.register_forward_pre_hook(hook))

    def on_output(linear: nn.Linear, name: str, heads: int) -> None:
        def hook(_m: nn.Module, _i: object, out: Tensor) -> Tensor:
            return _store(seen, name, out, heads)

        handles.append(linear.register_forward_hook(hook))

    try:
        for block in model.blocks():
            if not isinstance(block, AttentionBlock):
                on_input(block.down, block.name, None)
                continue
            heads = block.attention.heads
            query, key, _ = block.attention.projections()
            on_output(query, f"{block.name}.q", heads)
            on_output(key, f"{block.name}.k", heads)
            on_input(block.output, f"{block.name}.vo", heads)
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _store(seen: dict[str, Tensor], name: str, x: Tensor, heads: int | None) -> Tensor:
    """Keep ``x`` as a site's activation and pass it on; per head where there are heads."""
    if x.numel() == 0:
        return x
    if not x.requires_grad:  # below the first trained parameter nothing is on the graph yet
        x = x.detach().requires_grad_()
    if heads is None:
        seen[name] = x
        return x
    seen[name] = x.view(*x.shape[:2], heads, -1)
    return seen[name].view(x.shape)


def token_mask(model: SoftPromptModel, name: str, attention_mask: Tensor) -> Tensor | None:
    """Boolean mask [B, T] of the real positions of an observed activation; None: all are real."""
    reads_encoder = name.startswith("encoder") or name.endswith(".cross.k")
    return model.encoder_mask(attention_mask).bool() if reads_encoder else None


def over_tokens(scores: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Aggregate [R, T, n] over the T positions that ``mask`` [B, T] calls real -> [R, n].

    Padding never counts: a padded zero would lift a maximum of negative scores.
    """
    if mask is None:
        mask = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    elif len(mask) != len(scores):  # several decoder rows a text
        mask = mask.repeat_interleave(len(scores) // len(mask), 0)
    real = mask[..., None]
    if how == "max":
        return scores.masked_fill(~real, float("-inf")).amax(1)
    total = (scores * real).sum(1)
    return total if how == "sum" else total / real.sum(1)
