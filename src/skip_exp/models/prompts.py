"""Soft prompts: the only part of the model, beside the readout, that is trained.

``InputPrompt`` (Lester et al. 2021): embeddings put before the text's word embeddings.
``PrefixPrompt`` (P-tuning v2, Liu et al. 2021): keys and values of every self-attention layer; at
inference constants that need no query and no FFN. ``NoPrompt``: for baselines.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.models.families import AttentionBlock, Family, HFModel
from skip_exp.models.sites import Keep, Sublayer


class InputPrompt(nn.Module):
    """Virtual word embeddings [length, hidden]."""

    kind = "input"

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding.clone())

    @property
    def length(self) -> int:
        return self.embedding.shape[0]

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        for block in blocks.values():
            block.attention.prefix = None

    def cut(self, keep: Keep) -> None:
        """Nothing to do: word embeddings are not pruned."""


class PrefixPrompt(nn.Module):
    """Virtual keys and values [length, heads, dims], one pair per attention block named."""

    kind = "prefix"

    def __init__(self, names: list[Sublayer], keys: list[Tensor], values: list[Tensor]) -> None:
        super().__init__()
        self.names = names
        self.keys = nn.ParameterList(nn.Parameter(k.clone()) for k in keys)
        self.values = nn.ParameterList(nn.Parameter(v.clone()) for v in values)

    @property
    def length(self) -> int:
        return self.keys[0].shape[0]

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        for block in blocks.values():
            block.attention.prefix = None
        for name, key, value in zip(self.names, self.keys, self.values, strict=True):
            blocks[name].attention.prefix = (key, value)

    def cut(self, keep: Keep) -> None:
        """Keep the heads and dims that the attention blocks keep (see ``pruning.surgery``)."""
        for i, name in enumerate(self.names):
            for parameters, kind in ((self.keys, "qk"), (self.values, "vo")):
                kept = cut_heads(parameters[i].detach(), keep, name, kind)
                parameters[i] = nn.Parameter(kept.contiguous())


def cut_heads(x: Tensor, keep: Keep, block: Sublayer, kind: str) -> Tensor:
    """The kept part of ``x`` [length, heads, dims]: dims of each head first, then whole heads."""
    dims = keep.get(block.site(kind))
    if dims is not None:
        x = x.gather(2, dims[None].expand(x.shape[0], -1, -1))
    heads = keep.get(block.site("heads"))
    return x if heads is None else x[:, heads]


class NoPrompt(nn.Module):
    """Nothing: the baselines that tune a readout alone, or the whole model."""

    kind = "none"
    length = 0

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        for block in blocks.values():
            block.attention.prefix = None

    def cut(self, keep: Keep) -> None:
        """Nothing to do."""


SoftPrompt = InputPrompt | PrefixPrompt | NoPrompt


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
    """A new prompt of ``kind``, started from the tokens ``ids`` or, without them, from N(0, std).

    A prefix starts from the keys and values that the backbone itself computes for these tokens
    (Li & Liang 2021 found real activations to start far better than random ones).
    """
    if kind == "none":
        return NoPrompt()
    generator = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight.detach()
    if kind == "input":
        noise = torch.randn(length, words.shape[1], generator=generator) * std
        return InputPrompt(noise if ids is None else words[ids])
    blocks = [
        b
        for b in family.blocks(model)
        if isinstance(b, AttentionBlock)
        and b.name.part == "self"
        and (decoder or b.name.stack == "encoder")
    ]
    if ids is not None:
        keys, values = _activations(model, family, blocks, words[ids])
    else:
        keys, values = (
            [
                torch.randn(length, b.attention.heads, b.attention.qk_dim, generator=generator)
                * std
                for b in blocks
            ]
            for _ in range(2)
        )
    return PrefixPrompt([b.name for b in blocks], keys, values)


@torch.no_grad()
def _activations(
    model: HFModel, family: Family, blocks: list[AttentionBlock], embeds: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Keys and values [length, heads, dim] that ``blocks`` compute for ``embeds`` [length, H]."""
    captured: dict[str, Tensor] = {}
    handles = []
    for block in blocks:
        block.attention.prefix = None
        for kind, linear in zip("qkv", block.attention.projections(), strict=True):
            name = f"{block.name}.{kind}"
            handles.append(
                linear.register_forward_hook(
                    lambda _m, _i, out, name=name: captured.__setitem__(name, out[0])
                )
            )
    try:
        hidden = family.encode(model, embeds[None], None, None)
        if family.decode is not None and any(b.name.stack == "decoder" for b in blocks):
            family.decode(model, embeds[None], None, hidden, None)
    finally:
        for handle in handles:
            handle.remove()

    def heads(kind: str) -> list[Tensor]:
        return [
            captured[f"{b.name}.{kind}"].view(embeds.shape[0], b.attention.heads, -1)
            for b in blocks
        ]

    return heads("k"), heads("v")
