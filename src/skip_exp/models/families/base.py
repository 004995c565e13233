"""What a family of backbones has to say of itself, and what all of them share.

Prompts, readouts, attribution, surgery and skills reach into a backbone through these
descriptions only, so that there is one pipeline for all families.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skip_exp.models.attention import Attention
from skip_exp.models.sites import Shape, Sublayer

HFModel = Any  # a Hugging Face model: how its submodules are named has no static type
HIDDEN = -1e4  # additive mask of a padding key: exp() underflows to 0 in fp16, bf16 and fp32


@dataclass(frozen=True)
class AttentionBlock:
    """One attention sublayer, e.g. ``encoder.3.self``."""

    name: Sublayer
    attention: Attention
    output: nn.Linear

    def linears(self) -> dict[str, nn.Linear]:
        """All of its linears by name; the output projection has the sublayer's own."""
        query, key, value = self.attention.projections()
        n = self.name
        return {n: self.output, f"{n}.q": query, f"{n}.k": key, f"{n}.v": value}

    def shape(self) -> Shape:
        """Its sizes as they are now."""
        a = self.attention
        query, key, value = (_per_unit(linear) for linear in a.projections())
        return Shape(
            self.name,
            a.heads,
            _bias(self.output),
            qk=a.qk_dim,
            vo=a.vo_dim,
            qk_cost=query + key,
            vo_cost=value + self.output.out_features,
        )


@dataclass(frozen=True)
class FfnBlock:
    """One feed-forward sublayer, e.g. ``encoder.3.ffn``; ``up`` has two layers where gated."""

    name: Sublayer
    up: tuple[nn.Linear, ...]
    down: nn.Linear

    def shape(self) -> Shape:
        """Its sizes as they are now."""
        cost = sum(_per_unit(up) for up in self.up) + self.down.out_features
        return Shape(self.name, self.down.in_features, _bias(self.down), cost)

    @property
    def output(self) -> nn.Linear:
        """What writes to the hidden state, by the same name as of attention."""
        return self.down

    def linears(self) -> dict[str, nn.Linear]:
        """All of its linears by name; the output projection has the sublayer's own."""
        return {self.name: self.down} | {f"{self.name}.up{i}": up for i, up in enumerate(self.up)}


def _per_unit(linear: nn.Linear) -> int:
    """Parameters of one output unit."""
    return linear.in_features + (linear.bias is not None)


def _bias(linear: nn.Linear) -> int:
    return 0 if linear.bias is None else linear.bias.numel()


Block = AttentionBlock | FfnBlock
StandIns = dict[type[nn.Module], Callable[[Any], Attention]]


class Family:
    """How to reach into one kind of transformer.

    A subclass in a file of its own, a line in ``registry`` and a YAML file of a backbone add one.

    Attributes:
        name: ``model_type`` of its Hugging Face configuration.
        loaders: what a readout needs (encoder, mlm or seq2seq) -> Hugging Face class that has it.
        attention: Hugging Face attention module -> its stand-in.
    """

    name: ClassVar[str]
    loaders: ClassVar[dict[str, Any]]
    attention: ClassVar[StandIns]

    def loader_options(self, needs: str) -> dict[str, bool]:
        """Arguments of the loader of ``needs``."""
        return {}

    def blocks(self, model: HFModel) -> list[Block]:
        """Its sublayers in order of execution, only those in use."""
        raise NotImplementedError

    def layers(self, model: HFModel) -> list[nn.Module]:
        """The lists of layers in use, the encoder's first, and norms behind them."""
        raise NotImplementedError

    def encode(
        self, model: HFModel, embeds: Tensor, mask: Tensor | None, token_types: Tensor | None
    ) -> Tensor:
        """Embeddings [B, T, H] under an additive mask -> hidden states [B, T, H]."""
        raise NotImplementedError

    def decode(
        self,
        model: HFModel,
        embeds: Tensor,
        mask: Tensor | None,
        encoded: Tensor,
        encoded_mask: Tensor | None,
    ) -> Tensor:
        """Vocabulary logits [B, T, V] of the decoder, teacher-forced on ``embeds`` [B, T, H].

        ``mask`` hides later positions, ``encoded_mask`` the padding of ``encoded`` [B, S, H].
        """
        raise NotImplementedError

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        """The masked language model's vocabulary logits [B, V] of hidden states [B, H]."""
        raise NotImplementedError

    def position_offset(self, config: Any) -> int:
        """Row of the position table that the first token reads."""
        return 0

    def positions(self, model: HFModel) -> int | None:
        """Longest input in tokens, or None where unlimited."""
        return model.config.max_position_embeddings - self.position_offset(model.config)

    def prepare(self, model: HFModel) -> HFModel:
        """The model, frozen, in eval mode, its attention modules replaced by ours in place.

        The weights are shared, not copied.
        """
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) in self.attention:
                    setattr(parent, name, self.attention[type(child)](child))
        return model.eval().requires_grad_(False)


def key_mask(attention_mask: Tensor, prefix: int) -> Tensor | None:
    """Additive mask [B, 1, 1, prefix + S] from a 0/1 mask [B, S].

    None where nothing is padded, which saves time on a CPU. A GPU would have to be waited for to
    know, and an exported or compiled model cannot branch on data: there the mask always applies.
    """
    looks = attention_mask.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks and bool(attention_mask.all()):
        return None
    mask = (1.0 - attention_mask.to(torch.float32)) * HIDDEN
    return F.pad(mask, (prefix, 0))[:, None, None, :]


def causal_mask(length: int, prefix: int, device: torch.device) -> Tensor | None:
    """Additive mask [1, 1, length, prefix + length] that hides later positions."""
    if length == 1:
        return None
    future_mask = torch.full((length, length), HIDDEN, device=device).triu(1)
    return F.pad(future_mask, (prefix, 0))[None, None]
