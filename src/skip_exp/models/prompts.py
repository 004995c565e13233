"""Soft prompts: what is tuned beside the readout.

``input`` (Lester et al. 2021) puts virtual word embeddings before the text; each costs a full token
in every layer. ``prefix`` (P-tuning v2, Liu et al. 2021) adds virtual keys and values to every
self-attention; they need no query and no FFN. ``none`` adds nothing.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.errors import DataError
from skip_exp.models.families.base import AttentionBlock, Family, HFModel, hold_hooks
from skip_exp.models.sites import Keep, Sublayer
from skip_exp.utils.tokens import tokenize_fast


class SoftPrompt(nn.Module):
    """Base class of all prompts: zero tokens, no effect.

    A prompt at the input overrides ``build``, ``length`` and ``embed``. A prompt of keys and values
    overrides ``build``, ``length``, ``install`` and ``cut``.

    Attributes:
        at_input: whether its tokens stand before the text at the encoder's input. Otherwise they
            are keys and values beside the text's own.
    """

    at_input: ClassVar[bool] = False

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        """Build a new prompt for a backbone.

        Args:
            model: the backbone, prepared by ``family``.
            length: number of virtual tokens.
            ids: token ids [length] to start from; None starts from zeros.
            decoder: whether T5's decoder gets a prefix, too.
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

    def silence(self) -> None:
        """Start with as little effect as there can be (``prompt.init=silent``), in place."""

    def embed(self, embeds: Tensor) -> Tensor:
        """Map word embeddings [B, T, H] of the texts to [B, input_length + T, H]."""
        return embeds

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        """Put keys and values in place; called before every forward pass."""
        for block in blocks.values():
            block.attention.prefix = None

    def cut(self, keep: Keep) -> None:
        """Keep what the backbone keeps, in place (see :func:`pruning.surgery.cut`)."""


class NoPrompt(SoftPrompt):
    """No prompt: a readout alone is trained, or the backbone's own weights."""


class InputPrompt(SoftPrompt):
    """Virtual word embeddings [length, H] before the text's."""

    at_input: ClassVar[bool] = True

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding.clone())

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        words = model.get_input_embeddings().weight.detach()
        return cls(torch.zeros(length, words.shape[1]) if ids is None else words[ids])

    @property
    def length(self) -> int:
        return self.embedding.shape[0]

    def embed(self, embeds: Tensor) -> Tensor:
        soft = self.embedding.to(embeds.dtype).expand(embeds.shape[0], -1, -1)
        return torch.cat([soft, embeds], dim=1)


class PrefixPrompt(SoftPrompt):
    """Virtual keys and values [length, heads, head_dim], one pair per self-attention in ``names``.

    They start from the keys and values that the backbone computes for real tokens. Li & Liang
    (2021) found such a start far better than a random one.
    """

    def __init__(self, names: list[Sublayer], keys: list[Tensor], values: list[Tensor]) -> None:
        super().__init__()
        self.names = names
        self.keys = nn.ParameterList(nn.Parameter(k.clone()) for k in keys)
        self.values = nn.ParameterList(nn.Parameter(v.clone()) for v in values)

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        stacks = ("encoder", "decoder") if decoder else ("encoder",)
        blocks = [
            b
            for b in family.blocks(model)
            if isinstance(b, AttentionBlock) and b.name.part == "self" and b.name.stack in stacks
        ]
        if ids is None:
            attentions = [b.attention for b in blocks]
            keys = [torch.zeros(length, a.heads, a.head_dim) for a in attentions]
            values = [torch.zeros_like(each) for each in keys]
        else:
            words = model.get_input_embeddings().weight.detach()
            keys, values = _compute_pairs(model, family, blocks, words[ids])
        return cls([b.name for b in blocks], keys, values)

    @property
    def length(self) -> int:
        return self.keys[0].shape[0]

    @torch.no_grad()
    def silence(self) -> None:
        """Set the values to zero: the prefix only takes attention from the text."""
        for values in self.values:
            values.zero_()

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        pairs = dict(zip(self.names, zip(self.keys, self.values, strict=True), strict=True))
        for name, block in blocks.items():  # in one assignment: another thread may be predicting
            block.attention.prefix = pairs.get(name)

    def cut(self, keep: Keep) -> None:
        for i, name in enumerate(self.names):
            heads = keep.get(name.site)
            if heads is not None:
                for parameters in (self.keys, self.values):
                    kept = parameters[i].detach()[:, heads.to(parameters[i].device)]
                    parameters[i] = nn.Parameter(kept.contiguous())


@torch.no_grad()
def _compute_pairs(
    model: HFModel, family: Family, blocks: list[AttentionBlock], embeds: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values [length, heads, dim] that ``blocks`` compute for ``embeds`` [length, H]."""
    projected: dict[nn.Linear, Tensor] = {}

    def store(linear: nn.Linear, _inputs: Any, out: Tensor) -> None:
        projected[linear] = out[0]

    linears: list[nn.Linear] = []
    for block in blocks:
        block.attention.prefix = None
        linears += block.attention.projections()[1:]
    with hold_hooks(linear.register_forward_hook(store) for linear in linears):
        hidden = family.encode(model, embeds[None], None, None)
        if any(b.name.stack == "decoder" for b in blocks):
            family.decode(model, embeds[None], None, hidden, None)
    keys, values = [], []
    for block in blocks:
        _, key, value = block.attention.projections()
        keys.append(projected[key].unflatten(1, (block.attention.heads, -1)))
        values.append(projected[value].unflatten(1, (block.attention.heads, -1)))
    return keys, values


PROMPT_CLASSES: dict[str, type[SoftPrompt]] = {  # by `prompt.kind`
    "input": InputPrompt,
    "prefix": PrefixPrompt,
    "none": NoPrompt,
}


def start_ids(
    init: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    seed: int,
    *,
    text: str,
    counts: Callable[[], Tensor],
) -> Tensor:
    """Choose the token ids [length] that a prompt starts from (Lester et al. 2021 compare starts).

    Args:
        init: ``vocab`` draws different tokens of the task's train rows in proportion to their
            counts, so that no virtual token starts from an embedding that was never trained;
            so does ``silent``; ``text`` takes the tokens of ``text``. All repeat if there are fewer
            than ``length``.
        counts: returns the occurrences by token id; not called for ``text``.
    """
    if init == "text":
        ids = tokenize_fast(tokenizer, text, add_special_tokens=False)["input_ids"]
    else:
        weights = counts().double()
        weights[[i for i in tokenizer.all_special_ids if i < len(weights)]] = 0
        generator = torch.Generator().manual_seed(seed)
        draws = min(length, int((weights > 0).sum()))
        if not draws:
            raise DataError("train: no text has a token that the backbone's tokenizer knows")
        ids = torch.multinomial(weights, draws, generator=generator).tolist()
    return torch.tensor((ids * length)[:length])
