"""One attention module for all families: heads can be cut, keys and values prefixed.

It replaces Hugging Face's attention modules, and keeps their linears under the same names. Theirs
have no place for a soft prefix, and fail where no head is left.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Prefix = tuple[Tensor, Tensor]  # keys and values [length, heads, head_dim]
# Number of keys up to which plain products beat the fused kernel in bf16 on a CPU: without and with
# a backward pass.
TINY = 48
SHORT = 256


class Attention(nn.Module):
    """Scaled dot-product attention over the heads that a layer kept.

    A family's subclass takes the linears of the module that it replaces as ``query``, ``key`` and
    ``value``, or returns them from :meth:`projections`.

    Attributes:
        head_ids: positions [heads] of the kept heads among the original ones; a shared position
            bias is sliced by them.
        scaling: factor of the attention scores.
        prefix: soft keys and values before those of the text, or None.
        implementation: ``sdpa`` or ``eager``.
    """

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear

    def __init__(self, *, heads: int, head_dim: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.head_ids: Tensor = nn.Buffer(torch.arange(heads))
        self.head_dim = head_dim
        self.scaling = scaling
        self.dropout_p = dropout
        self.prefix: Prefix | None = None
        self.implementation = "sdpa"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the prefix: a copy gets one from its own prompt."""
        return self.__dict__ | {"prefix": None}

    @property
    def heads(self) -> int:
        """Number of kept heads."""
        return self.head_ids.shape[0]

    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The query, key and value linears."""
        return self.query, self.key, self.value

    def context(
        self,
        hidden: Tensor,
        source: Tensor,
        mask: Tensor | None,
        turn: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Attend from ``hidden`` [B, T, H] to ``source`` [B, S, H].

        ``mask`` is additive, broadcastable to [B, heads, T, prefix length + S]. ``turn`` gives
        queries and keys [B, heads, T, head_dim] their positions; prefix keys have none.
        Returns [B, T, heads * head_dim], the input of the output projection.
        """
        if not self.heads:
            return hidden.new_zeros(*hidden.shape[:2], 0)
        query, key, value = self.projections()
        q = self._split(query(hidden))
        k = self._split(key(source))
        v = self._split(value(source))
        # Positions before the prefix: its keys have none.
        if turn is not None:
            q = turn(q)
            k = turn(k)
        if self.prefix is not None:
            soft_keys, soft_values = self.prefix
            k = _prepend(soft_keys, k)
            v = _prepend(soft_values, v)
        return self._attend(q, k, v, mask).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, heads * head_dim] -> [B, heads, T, head_dim]."""
        return x.view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            mask = mask.to(q.dtype)
        if self._is_fused(q, k):
            return F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=self.dropout_p if self.training else 0.0,
                scale=self.scaling,
            )
        scores = q @ k.transpose(2, 3) * self.scaling
        if mask is not None:
            scores = scores + mask
        weights = scores.softmax(dim=-1, dtype=torch.float32)
        return F.dropout(weights, self.dropout_p, self.training).to(v.dtype) @ v

    def _is_fused(self, q: Tensor, k: Tensor) -> bool:
        """Whether the fused kernel computes this call.

        On short texts in bf16 on a CPU its backward pass takes four times as long as plain
        products, a third of a training step. On long texts plain products would fill the memory.
        Without a backward pass they are faster on very short texts only.
        """
        if self.implementation != "sdpa":
            return False
        few = k.shape[2] <= (SHORT if q.requires_grad else TINY)
        return not (few and q.dtype == torch.bfloat16 and q.device.type == "cpu")


def _prepend(soft: Tensor, x: Tensor) -> Tensor:
    """``x`` [B, heads, S, head_dim] after the ``soft`` keys or values."""
    soft = soft.to(x).transpose(0, 1)
    return torch.cat([soft.expand(x.shape[0], -1, -1, -1), x], dim=2)
