"""Soft prompts: what is tuned beside the readout.

``input`` (Lester et al. 2021) puts virtual word embeddings before the text; each costs a full token
in every layer. ``prefix`` (P-tuning v2, Liu et al. 2021) adds virtual keys and values to every
self-attention of the encoder; they need no query and no FFN. ``none`` adds nothing.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from .attention import Attention
from .family import Family, HFModel, Keep, Sublayer


class SoftPrompt(nn.Module):
    """Base class of all prompts: zero tokens, no effect.

    A prompt at the input overrides ``build``, ``length`` and ``embed``. A prompt of keys and values
    overrides ``build``, ``length``, ``install``, ``cut`` and ``keep_first``.

    Attributes:
        at_input: whether its tokens stand before the text at the encoder's input. Otherwise they
            are keys and values beside the text's own.
    """

    at_input: ClassVar[bool] = False

    @classmethod
    def build(cls, model: HFModel, family: Family, length: int) -> Self:
        """Build a prompt of zeros for a backbone; :func:`start.new_prompt` makes one to tune.

        Args:
            model: the backbone, prepared by ``family``.
            length: number of virtual tokens.
        """
        return cls()

    @property
    def length(self) -> int:
        """Number of virtual tokens, or of key-value pairs per layer."""
        return 0

    @property
    def input_length(self) -> int:
        """Number of virtual tokens at the encoder's input."""
        return self.length if self.at_input else 0

    def embed(self, embeds: Tensor) -> Tensor:
        """Map word embeddings [B, T, H] of the texts to [B, input_length + T, H]."""
        return embeds

    def install(self, attentions: dict[str, Attention]) -> None:
        """Put keys and values in place; called before every forward pass."""
        for attention in attentions.values():
            attention.prefix = None

    def cut(self, keep: Keep) -> None:
        """Keep what the backbone keeps, in place (see :func:`narrow`)."""

    def keep_first(self, layers: int) -> None:
        """Drop what belongs to later layers, in place."""


class NoPrompt(SoftPrompt):
    """No prompt: a readout alone is trained, or the backbone's own weights."""


class InputPrompt(SoftPrompt):
    """Virtual word embeddings [length, H] before the text's."""

    at_input: ClassVar[bool] = True

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding)

    @classmethod
    def build(cls, model: HFModel, family: Family, length: int) -> Self:
        return cls(torch.zeros(length, model.get_input_embeddings().weight.shape[1]))

    @property
    def length(self) -> int:
        return self.embedding.shape[0]

    def embed(self, embeds: Tensor) -> Tensor:
        soft = self.embedding.to(embeds.dtype).expand(embeds.shape[0], -1, -1)
        return torch.cat([soft, embeds], dim=1)


class PrefixPrompt(SoftPrompt):
    """Virtual keys and values [length, heads, head_dim], one pair per self-attention in ``names``.

    Args:
        sizes: (length, heads, head_dim) of each of them.
    """

    def __init__(self, names: list[Sublayer], sizes: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.names = names
        self.keys = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)
        self.values = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in sizes)

    @classmethod
    def build(cls, model: HFModel, family: Family, length: int) -> Self:
        names = []
        sizes = []
        for block in family.blocks(model):
            attention = block.attention
            if attention is not None and block.name.stack == "encoder":
                names.append(block.name)
                sizes.append((length, attention.heads, attention.head_dim))
        return cls(names, sizes)

    @property
    def length(self) -> int:
        return self.keys[0].shape[0]

    def install(self, attentions: dict[str, Attention]) -> None:
        pairs = dict(zip(self.names, zip(self.keys, self.values, strict=True), strict=True))
        for name, attention in attentions.items():
            attention.prefix = pairs.get(name)  # in one step: another thread may be predicting

    def cut(self, keep: Keep) -> None:
        for i, name in enumerate(self.names):
            heads = keep.get(name.site)
            if heads is not None:
                for parameters in (self.keys, self.values):
                    left = parameters[i].detach()[:, heads.to(parameters[i].device)]
                    parameters[i] = nn.Parameter(left.contiguous())

    def keep_first(self, layers: int) -> None:
        left = [i for i, name in enumerate(self.names) if name.layer < layers]
        self.names = [self.names[i] for i in left]
        self.keys = nn.ParameterList(self.keys[i] for i in left)
        self.values = nn.ParameterList(self.values[i] for i in left)


PROMPT_CLASSES: dict[str, type[SoftPrompt]] = {  # by `prompt.kind`
    "input": InputPrompt,
    "prefix": PrefixPrompt,
    "none": NoPrompt,
}
