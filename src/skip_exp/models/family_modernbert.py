"""ModernBERT (Warner et al. 2024) and Ettin: rotary positions, local attention, gated FFNs.

Pre-norm, without biases. Every third layer attends to the whole text, the others to a window.

The fused ``Wqkv`` and ``Wi`` are split into linears that share their memory: :meth:`prepare`
changes no number. Each part can then be cut, scored and updated like any other linear. A cut would
leave parts of different widths, so an export keeps them apart, too.

Prefix keys are not rotated: for every query they stand at position 0, as PEFT's prefixes do in
other rotary models. All queries see them, also in local layers. A window would hide them from
the end of a long text.
"""

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention, ModernBertMLP

from .attention import Attention
from .family import HIDDEN, Block, Family, HFModel, Mask, Sublayer, linear_of
from .family_bert import Bert

Turn = tuple[Tensor, Tensor]  # cosines and sines [1, T, head_dim / 2]


class RotaryAttention(Attention):
    """Replaces ``ModernBertAttention``, output projection included."""

    def __init__(self, original: ModernBertAttention) -> None:
        super().__init__(
            heads=original.config.num_attention_heads,
            head_dim=original.head_dim,
            scaling=original.head_dim**-0.5,
            dropout=original.attention_dropout,
        )
        self.query, self.key, self.value = split(original.Wqkv, 3)
        self.Wo = original.Wo
        self.out_drop = original.out_drop

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Turn,
        attention_mask: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, None]:
        cos, sin = position_embeddings
        turn = partial(rotate, cos=cos, sin=sin)
        out = self.context(hidden_states, hidden_states, attention_mask, turn)
        return self.out_drop(self.Wo(out)), None


class GatedMlp(nn.Module):
    """Replaces ``ModernBertMLP``."""

    def __init__(self, original: ModernBertMLP) -> None:
        super().__init__()
        self.input, self.gate = split(original.Wi, 2)
        self.act = original.act
        self.drop = original.drop
        self.Wo = original.Wo

    def forward(self, hidden_states: Tensor) -> Tensor:
        units = self.act(self.input(hidden_states)) * self.gate(hidden_states)
        return self.Wo(self.drop(units))


class ModernBert(Family):
    """Pre-norm encoder with rotary positions."""

    name = "modernbert"
    loaders = Bert.loaders
    attention: ClassVar[dict[type[nn.Module], Any]] = {
        ModernBertAttention: RotaryAttention,
        ModernBertMLP: GatedMlp,
    }

    def blocks(self, model: HFModel) -> list[Block]:
        blocks: list[Block] = []
        for i, layer in enumerate(model.base_model.layers):
            attention = layer.attn
            mlp = layer.mlp
            name = Sublayer(f"encoder.{i}.self")
            blocks.append(Block(name, attention.projections(), attention.Wo, attention))
            blocks.append(Block(Sublayer(f"encoder.{i}.ffn"), (mlp.input, mlp.gate), mlp.Wo))
        return blocks

    def layers(self, model: HFModel) -> list[nn.Module]:
        return [model.base_model.layers, model.base_model.final_norm]

    def encode(self, model: HFModel, embeds: Tensor, mask: Mask, types: Tensor | None) -> Tensor:
        core = model.base_model
        hidden = core.embeddings(inputs_embeds=embeds)
        length = embeds.shape[1]
        prefix = core.layers[0].attn.prefix
        before = 0 if prefix is None else len(prefix[0])
        local = local_mask(length, core.config.sliding_window, mask, before, embeds.device)
        masks = {"full_attention": mask, "sliding_attention": local}
        positions = torch.arange(length, device=embeds.device)[None]
        turns = {}
        for kind in set(core.config.layer_types):
            cos, sin = core.rotary_emb(hidden, positions, kind)
            half = cos.shape[-1] // 2  # the library repeats each angle for the second half
            turns[kind] = cos[..., :half], sin[..., :half]
        for layer in core.layers:
            kind = layer.attention_type
            hidden = layer(hidden, masks[kind], turns[kind])
        return core.final_norm(hidden)

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        return model.decoder(model.head(hidden))

    def head(self, model: HFModel) -> tuple[nn.Linear, nn.Linear]:
        return model.head.dense, model.classifier

    def between(self, model: HFModel) -> nn.Module:
        return nn.Sequential(model.head.act, model.head.norm)


def split(linear: nn.Linear, parts: int) -> list[nn.Linear]:
    """Linears with one of ``parts`` equal shares of the output units each, in order.

    Their weights and biases are views of those of ``linear``.
    """
    weights = [nn.Parameter(part) for part in linear.weight.detach().chunk(parts)]
    biases: list[nn.Parameter | None] = [None] * parts
    if linear.bias is not None:
        biases = [nn.Parameter(part) for part in linear.bias.detach().chunk(parts)]
    return list(map(linear_of, weights, biases))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the dims i and i + half of ``x`` [B, heads, T, dims] by the angles [1, T, dims / 2]."""
    a, b = x.float().chunk(2, dim=3)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=3).to(x.dtype)


def local_mask(
    length: int, window: int, mask: Tensor | None, prefix: int, device: torch.device
) -> Tensor | None:
    """``mask`` that also hides keys more than ``window`` tokens away; the prefix stays in sight.

    Args:
        mask: additive, [B, 1, 1, prefix + length]; None hides nothing.

    Returns:
        [B or 1, 1, length, prefix + length]; ``mask`` itself if no key is that far away. An
        exported or compiled model cannot branch on the length: there it always applies.
    """
    if not torch.compiler.is_compiling() and length <= window + 1:
        return mask
    positions = torch.arange(length, device=device)
    far = (positions - positions[:, None]).abs() > window
    hidden = F.pad(far * HIDDEN, (prefix, 0))[None, None]
    return hidden if mask is None else hidden + mask
