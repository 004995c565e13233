"""What tuning starts from: a prompt of real tokens, a readout of random weights.

Only these draw random numbers or compute: a skill may be loaded while another thread trains.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .family import AttentionBlock, Family, HFModel
from .prompts import PROMPT_CLASSES, InputPrompt, PrefixPrompt, SoftPrompt
from .readouts import HeadReadout, Readout


@torch.no_grad()
def new_prompt(
    kind: str,
    model: HFModel,
    family: Family,
    ids: Tensor,
    decoder: bool = False,
    silent: bool = False,
) -> SoftPrompt:
    """Build a prompt that starts from the tokens ``ids`` [length].

    A prefix starts from the keys and values that the backbone computes for them. Li & Liang (2021)
    found such a start far better than a random one.

    Args:
        model: the backbone, prepared by ``family``.
        decoder: whether T5's decoder gets a prefix, too.
        silent: the values of a prefix are zero: it only takes attention from the text.
    """
    prompt = PROMPT_CLASSES[kind].build(model, family, len(ids), decoder)
    words = model.get_input_embeddings().weight[ids]
    if isinstance(prompt, InputPrompt):
        prompt.embedding.copy_(words)
    elif isinstance(prompt, PrefixPrompt):
        _fill(prompt, model, family, words, silent)
    return prompt


def _fill(
    prompt: PrefixPrompt, model: HFModel, family: Family, embeds: Tensor, silent: bool
) -> None:
    """Fill in the keys and values that the backbone computes for ``embeds`` [length, H]."""
    projected: dict[nn.Linear, Tensor] = {}

    def store(linear: nn.Linear, _inputs: Any, out: Tensor) -> None:
        projected[linear] = out[0]

    found = {block.name: block for block in family.blocks(model)}
    blocks = [found[name] for name in prompt.names]
    linears: list[nn.Linear] = []
    for block in blocks:
        assert isinstance(block, AttentionBlock)
        block.attention.prefix = None
        linears += block.attention.projections()[1:]
    with ExitStack() as hooks:
        for linear in linears:
            hooks.enter_context(linear.register_forward_hook(store))
        hidden = family.encode(model, embeds[None], None, None)
        if any(name.stack == "decoder" for name in prompt.names):
            family.decode(model, embeds[None], None, hidden, None)
    for i, (keys, values) in enumerate(zip(prompt.keys, prompt.values, strict=True)):
        keys.copy_(projected[linears[2 * i]].view_as(keys))
        if not silent:
            values.copy_(projected[linears[2 * i + 1]].view_as(values))


def draw_weights(readout: Readout) -> None:
    """Draw the weights of a readout that has new ones, in place."""
    if isinstance(readout, HeadReadout):
        readout.linear.reset_parameters()  # the draws of a seed are those that it always had
        nn.init.normal_(readout.linear.weight, std=0.02)
        nn.init.zeros_(readout.linear.bias)
