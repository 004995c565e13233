"""Every kind of prompt by its name, and the tokens that one starts from."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skip_exp.config.named import part_class
from skip_exp.models.prompts.base import NoPrompt, SoftPrompt
from skip_exp.models.prompts.input import InputPrompt
from skip_exp.models.prompts.prefix import PrefixPrompt

PROMPTS: dict[str, type[SoftPrompt]] = {
    "input": InputPrompt,
    "prefix": PrefixPrompt,
    "none": NoPrompt,
}


def prompt_class(kind: str) -> type[SoftPrompt]:
    """The class of a kind of PROMPTS, or a custom one (``module.Class``). Raises ConfigError."""
    return part_class("prompt.kind", kind, PROMPTS, SoftPrompt)


def start_ids(
    init: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    seed: int,
    *,
    text: str,
    counts: Callable[[], Tensor],
) -> Tensor:
    """Token ids [length] that a prompt starts from.

    ``vocab``: different tokens of the task's own train rows, drawn by how often they occur there
    (``counts()``: occurrences by token id), so that no virtual token starts from an embedding that
    no text ever trained; ``text``: the tokens of ``text``. Both are repeated where they are fewer
    than ``length`` (Lester et al. 2021 compare such starts).
    """
    if init == "text":
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        weights = counts().double()
        weights[[i for i in tokenizer.all_special_ids if i < len(weights)]] = 0
        generator = torch.Generator().manual_seed(seed)
        draws = min(length, int((weights > 0).sum()))
        ids = torch.multinomial(weights, draws, generator=generator).tolist()
    return torch.tensor((ids * length)[:length])
