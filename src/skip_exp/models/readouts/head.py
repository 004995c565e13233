"""A linear layer on the text's hidden states."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from skip_exp.errors import ConfigError
from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.readouts.base import Encoded, Readout


class HeadReadout(Readout):
    """A trained linear layer on what ``pooling`` makes of the text's hidden states.

    Args:
        pooling: ``mean`` over the text, ``cls``: its first token, or ``pair``: of the means u and v
            over its two segments, ``[u, v, |u - v|, u * v]`` (Conneau et al. 2017), 4 x hidden.
        separator: for ``pair``, the token that ends the first segment; the second is what stands
            behind the first one of these. So it is known from the ids, in every family alike.
    """

    def __init__(
        self, hidden: int, labels: int, pooling: str = "mean", separator: int = -1
    ) -> None:
        super().__init__()
        self.pooling, self.separator = pooling, separator
        self.linear = nn.Linear(4 * hidden if pooling == "pair" else hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        separator = _separator(tokenizer) if pooling == "pair" else -1
        return cls(model.config.hidden_size, labels, pooling, separator)

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        # fp32 on top of a bf16 backbone, too
        hidden = encoded.text.to(self.linear.weight.dtype)
        if self.pooling == "cls":
            return self.linear(hidden[:, 0])
        weight = encoded.text_mask.to(hidden.dtype)
        if self.pooling == "mean":
            return self.linear(_mean(hidden, weight))
        assert encoded.ids is not None
        ends = (encoded.ids == self.separator).long()
        second = (ends.cumsum(1) > ends).to(hidden.dtype)  # a separator came before it
        u, v = _mean(hidden, weight * (1 - second)), _mean(hidden, weight * second)
        return self.linear(torch.cat([u, v, (u - v).abs(), u * v], 1))


def _mean(hidden: Tensor, weight: Tensor) -> Tensor:
    """Mean [B, H] over the positions of [B, T, H] with weight 1; zeros where there is none."""
    return (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)


def _separator(tokenizer: Any) -> int:
    """The token behind the first text of a pair; raises ConfigError where there is none."""
    (pair,) = tokenizer("a", "b").encodings
    sides = pair.sequence_ids  # 0, 1, or None for a special token
    end = len(sides) - sides[::-1].index(0)
    if sides[end] is not None:
        why = "the tokenizer sets no token between two texts"
        raise ConfigError("backbone.pooling", "pair", why)
    return int(pair.ids[end])
