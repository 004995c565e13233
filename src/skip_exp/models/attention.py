"""One attention module for all families: heads and dims can be cut, keys and values prefixed.

It replaces Hugging Face's attention modules and keeps their linears under the same names, so the
state dict stays the same. Theirs have one fixed head size for queries, keys and values, and no
place for a soft prefix.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Prefix = tuple[Tensor, Tensor]  # keys [length, heads, qk_dim], values [length, heads, vo_dim]
# Number of keys up to which plain products beat the fused kernel in bf16 on a CPU: without and with
# a backward pass.
TINY, SHORT = 48, 256


class Attention(nn.Module):
    """Scaled dot-product attention over the heads and dims that a layer kept.

    A family's subclass takes the linears of the module that it replaces as ``query``, ``key`` and
    ``value``, or returns them from :meth:`projections`.

    Attributes:
        head_ids: positions of the kept heads among the original ones; a shared position bias is
            sliced by them.
        qk_dim, vo_dim: query/key and value/output dims kept per head.
        qk_group: query/key dims that are one neuron: 2 where a rotation mixes the dims i and
            i + half, else 1.
        scaling: factor of the attention scores; a cut does not change it.
        prefix: soft keys and values before those of the text, or None.
        implementation: ``sdpa`` or ``eager``.
    """

    qk_group: ClassVar[int] = 1
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear

    def __init__(self, *, heads: int, head_dim: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.head_ids = list(range(heads))
        self.head_index: Tensor  # head_ids on the device of the weights
        self.register_buffer("head_index", torch.arange(heads), persistent=False)
        self.total_heads = heads
        self.qk_dim = head_dim
        self.vo_dim = head_dim
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
        return len(self.head_ids)

    def keep_heads(self, heads: list[int]) -> None:
        """Keep only these of the current heads; ``pruning.surgery`` cuts the weights."""
        self.head_ids = [self.head_ids[i] for i in heads]
        self.head_index = torch.tensor(self.head_ids, dtype=torch.long).to(self.head_index.device)

    def keep_dims(self, kind: str, dims: Tensor) -> None:
        """Keep only these ``qk`` or ``vo`` dims [heads, k]; surgery cuts the weights."""
        setattr(self, f"{kind}_dim", dims.shape[1])

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
        queries and keys [B, heads, T, qk_dim] their positions; prefix keys have none.
        Returns [B, T, heads * vo_dim], the input of the output projection.
        """
        batch, length = hidden.shape[:2]
        if self.heads * self.vo_dim == 0:  # the whole sublayer was pruned
            return hidden.new_zeros(batch, length, 0)
        query, key, value = self.projections()
        if self.qk_dim == 0:  # every score is zero
            v = self._behind(1, self._split(value(source), self.vo_dim))
            scores = v.new_zeros(batch, self.heads, length, v.shape[2])
            out = self._weigh(scores, v, mask)
        else:
            q, k = self._split(query(hidden), self.qk_dim), self._split(key(source), self.qk_dim)
            v = self._behind(1, self._split(value(source), self.vo_dim))
            if turn is not None:
                q, k = turn(q), turn(k)
            out = self._attend(q, self._behind(0, k), v, mask)
        return out.transpose(1, 2).reshape(batch, length, self.heads * self.vo_dim)

    def _behind(self, which: int, x: Tensor) -> Tensor:
        """``x`` [B, heads, S, dims] after the keys (0) or values (1) of the prefix."""
        if self.prefix is None:
            return x
        soft = self.prefix[which].to(x.dtype).transpose(0, 1)
        return torch.cat([soft.expand(x.shape[0], -1, -1, -1), x], dim=2)

    def _split(self, x: Tensor, dim: int) -> Tensor:
        return x.view(*x.shape[:2], self.heads, dim).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if not self._is_fused(q, k):
            return self._weigh(q @ k.transpose(2, 3) * self.scaling, v, mask)
        if mask is not None:
            mask = mask.to(q.dtype)
        # The fast kernels need one width: zeros change no score and are cut off again.
        width = max(self.qk_dim, self.vo_dim)
        q, k, v = (_widen(x, width) for x in (q, k, v))
        dropout = self.dropout_p if self.training else 0.0
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scaling
        )
        return out if width == self.vo_dim else out[..., : self.vo_dim]

    def _weigh(self, scores: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The values ``v`` [B, heads, S, vo_dim] weighted by ``scores`` [B, heads, T, S]."""
        if mask is not None:
            scores = scores + mask.to(v.dtype)
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


def _widen(x: Tensor, width: int) -> Tensor:
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]))
