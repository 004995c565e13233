"""A new prompt of a kind, and the tokens that it starts from."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from skip_exp.config.named import named
from skip_exp.errors import ConfigError
from skip_exp.models.families import Family, HFModel
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
    std: float,
    seed: int,
    decoder: bool = False,
) -> SoftPrompt:
    """A new prompt of ``kind``; see :class:`skip_exp.models.prompts.base.Start`."""
    return prompt_class(kind).build(model, family, Start(length, ids, std, seed, decoder))


def init_ids(
    init: str, tokenizer: PreTrainedTokenizerBase, length: int, seed: int, text: str
) -> Tensor | None:
    """Token ids [length] that a prompt starts from, or None for ``normal``.

    ``vocab``: words drawn at random; ``text``: the tokens of ``text`` repeated (Lester et al. found
    class labels to start better than random ones).
    """
    if init == "normal":
        return None
    if init == "text":
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return torch.tensor((ids * length)[:length])
    special = set(tokenizer.all_special_ids)
    generator = torch.Generator().manual_seed(seed)
    candidates = torch.randperm(min(len(tokenizer), 5000), generator=generator)
    return torch.tensor([i for i in candidates.tolist() if i not in special][:length])
