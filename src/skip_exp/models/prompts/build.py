"""A new prompt of a kind, and the tokens that it starts from."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skip_exp.config.named import named
from skip_exp.errors import ConfigError
from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.prompts.base import SoftPrompt, Start
from skip_exp.models.prompts.input import InputPrompt
from skip_exp.models.prompts.none import NoPrompt
from skip_exp.models.prompts.prefix import PrefixPrompt

KINDS: dict[str, type[SoftPrompt]] = {
    "input": InputPrompt,
    "prefix": PrefixPrompt,
    "none": NoPrompt,
}


def prompt_class(kind: str) -> type[SoftPrompt]:
    """The class of a kind: of KINDS, or one of the user's own by its place (``module.Class``).

    Raises:
        ConfigError: neither.
    """
    class_ = KINDS[kind] if kind in KINDS else named("prompt.kind", kind, tuple(KINDS))
    if not (isinstance(class_, type) and issubclass(class_, SoftPrompt)):
        raise ConfigError(
            "prompt.kind", kind, "must be a subclass of models.prompts.base.SoftPrompt"
        )
    return class_


def build_prompt(
    kind: str,
    model: HFModel,
    family: Family,
    *,
    length: int,
    ids: Tensor | None,
    decoder: bool = False,
) -> SoftPrompt:
    """A new prompt of ``kind``; see :class:`skip_exp.models.prompts.base.Start`."""
    return prompt_class(kind).build(model, family, Start(length, ids, decoder))


def init_ids(
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
