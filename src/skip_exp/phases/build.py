"""Builds the model that tune trains: a backbone with a prompt and a readout.

The prompt starts from real tokens, the readout from random weights.
"""

import copy
import hashlib
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.backbones.load import Backbone, build_readout
from skip_exp.config.groups import OWN_WEIGHTS, TuneConfig
from skip_exp.config.schema import PromptConfig
from skip_exp.data.rows import Rows
from skip_exp.errors import DataError
from skip_exp.models.family import Family, HFModel
from skip_exp.models.prompts import PROMPT_CLASSES, InputPrompt, PrefixPrompt, SoftPrompt
from skip_exp.models.readouts import HeadReadout, Readout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import fold_updates, load_trainable, train_only
from skip_exp.phases.start import Start


def phase_seed(seed: int, phase: str) -> int:
    """A seed for each phase of a job: separate, so that a cached phase changes nothing later."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{phase}".encode()).digest()[:4], "big")


def build_model(
    data: Rows,
    backbone: Backbone,
    pooling: str,
    prompt: PromptConfig,
    settings: TuneConfig,
    start: Start | None,
    seed: int,
    *,
    shares_backbone: bool = True,
) -> SoftPromptModel:
    """The model before tuning, on the CPU; what ``settings.train`` trains requires gradients.

    The readout is always new. Prompt and trained weights are those of ``start``, if any.

    Args:
        pooling: what a head reads.
        seed: of the job.
        shares_backbone: False for a copy of the weights: those of later jobs stay on the CPU.
    """
    task, seed = data.spec, phase_seed(seed, "init")
    L.seed_everything(seed, verbose=False)
    ids = start_ids(backbone.tokenizer, prompt.length, seed, data.token_counts())
    soft = new_prompt(
        prompt.kind,
        backbone.model,
        backbone.family,
        ids,
        silent=prompt.init == "silent",
    )
    readout = build_readout(backbone, task.num_labels, tuple(task.words), pooling)
    draw_weights(readout)
    weights = backbone.model if shares_backbone else copy.deepcopy(backbone.model)
    model = SoftPromptModel(weights, backbone.family, soft, readout)
    if settings.train in OWN_WEIGHTS:  # others share this backbone
        model = model.copy()
    if start is not None:
        train_only(model, start.train, start.rank, seed)  # has whatever the start brings
        load_trainable(model, start.state)
        if settings.train != "lora":
            fold_updates(model.backbone)  # the weights themselves are trained from here on
    train_only(model, settings.train, settings.rank, seed)
    return model


def start_ids(tokenizer: PreTrainedTokenizerBase, length: int, seed: int, counts: Tensor) -> Tensor:
    """Choose the token ids [length] that a prompt starts from (Lester et al. 2021 compare starts).

    These are different tokens of the task's train rows, drawn in proportion to their counts, so
    that no virtual token starts from an embedding that was never trained. All repeat if there are
    fewer than ``length``.

    Args:
        counts: occurrences by token id.
    """
    weights = counts.double()
    weights[[i for i in tokenizer.all_special_ids if i < len(weights)]] = 0
    generator = torch.Generator().manual_seed(seed)
    draws = min(length, int((weights > 0).sum()))
    if not draws:
        raise DataError("train: no text has a token that the backbone's tokenizer knows")
    ids = torch.multinomial(weights, draws, generator=generator).tolist()
    return torch.tensor((ids * length)[:length])


@torch.no_grad()
def new_prompt(
    kind: str,
    model: HFModel,
    family: Family,
    ids: Tensor,
    silent: bool = False,
) -> SoftPrompt:
    """Build a prompt that starts from the tokens ``ids`` [length].

    A prefix starts from the keys and values that the backbone computes for them. Li & Liang (2021)
    found such a start far better than a random one.

    Args:
        model: the backbone, prepared by ``family``.
        silent: the values of a prefix are zero: it only takes attention from the text.
    """
    prompt = PROMPT_CLASSES[kind].build(model, family, len(ids))
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

    linears: list[nn.Linear] = []  # keys and values of every attention
    for block in family.blocks(model):
        if block.attention is not None and block.name in prompt.names:
            block.attention.prefix = None
            linears += block.inner[1:]
    with ExitStack() as hooks:
        for linear in linears:
            hooks.enter_context(linear.register_forward_hook(store))
        family.encode(model, embeds[None], None, None)
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
