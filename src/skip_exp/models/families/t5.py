"""T5 (Raffel et al. 2020) and its successors: relative positions, maybe gated FFNs, a decoder."""

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5EncoderModel, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from skip_exp.models.attention import Attention
from skip_exp.models.families.base import (
    AttentionBlock,
    Block,
    Family,
    FfnBlock,
    HFModel,
    StandIns,
)
from skip_exp.models.sites import Sublayer


class T5BlockAttention(Attention):
    """Stands in for ``T5Attention`` (self and cross), output projection included.

    Block 0 adds the relative position bias of all original heads to the mask once and hands the
    sum on; every layer takes the rows of the heads that it kept. Soft prefix keys have no
    position, hence a bias of zero.
    """

    def __init__(self, original: T5Attention) -> None:
        super().__init__(
            heads=original.n_heads,
            head_dim=original.key_value_proj_dim,
            scaling=original.scaling,
            dropout=original.dropout,
        )
        self.q, self.k, self.v, self.o = original.q, original.k, original.v, original.o
        self.has_relative_attention_bias = original.has_relative_attention_bias
        if self.has_relative_attention_bias:
            self.relative_attention_bias = original.relative_attention_bias
        self.bidirectional = not original.is_decoder
        self.buckets = original.relative_attention_num_buckets
        self.max_distance = original.relative_attention_max_distance

    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q, self.k, self.v

    def position_bias(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Bias of all original heads, [1, total_heads, queries, prefix length + keys]."""
        distance = torch.arange(keys, device=device) - torch.arange(queries, device=device)[:, None]
        bucket = T5Attention._relative_position_bucket(
            distance, self.bidirectional, self.buckets, self.max_distance
        )
        bias = self.relative_attention_bias(bucket).permute(2, 0, 1)[None]
        prefix = 0 if self.prefix is None else self.prefix[0].shape[0]
        return F.pad(bias, (prefix, 0))

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None,
        **_: object,
    ) -> tuple[Tensor, Tensor | None, None]:
        source = hidden_states if key_value_states is None else key_value_states
        if position_bias is None:
            position_bias = mask
            if self.has_relative_attention_bias:
                bias = self.position_bias(
                    hidden_states.shape[1], source.shape[1], hidden_states.device
                )
                position_bias = bias if mask is None else bias + mask
        bias_of_heads = position_bias
        if (
            bias_of_heads is not None
            and bias_of_heads.shape[1] > 1
            and self.heads < self.total_heads
        ):
            bias_of_heads = bias_of_heads.index_select(1, self.head_index)
        out = self.o(self.context(hidden_states, source, bias_of_heads))
        return out, position_bias, None


class T5(Family):
    """Pre-norm encoder, with the ``seq2seq`` readout a decoder, too."""

    name = "t5"
    loaders: ClassVar[dict[str, Any]] = {
        "encoder": T5EncoderModel,
        "seq2seq": T5ForConditionalGeneration,
    }
    attention: ClassVar[StandIns] = {T5Attention: T5BlockAttention}

    def blocks(self, model: HFModel) -> list[Block]:
        return [block for name, stack in _stacks(model) for block in _stack_blocks(stack, name)]

    def layers(self, model: HFModel) -> list[nn.Module]:
        return [part for _, s in _stacks(model) for part in (s.block, s.final_layer_norm)]

    def encode(
        self, model: HFModel, embeds: Tensor, mask: Tensor | None, token_types: Tensor | None
    ) -> Tensor:
        stack = model.encoder
        hidden, bias = stack.dropout(embeds), None
        for block in stack.block:
            hidden, bias, _ = block(hidden, mask, bias)
        return stack.dropout(stack.final_layer_norm(hidden))

    def decode(
        self,
        model: HFModel,
        embeds: Tensor,
        mask: Tensor | None,
        encoded: Tensor,
        encoded_mask: Tensor | None,
    ) -> Tensor:
        stack = model.decoder
        hidden, bias, cross_bias = stack.dropout(embeds), None, None
        for block in stack.block:
            hidden, bias, cross_bias = block(hidden, mask, bias, encoded, encoded_mask, cross_bias)
        hidden = stack.dropout(stack.final_layer_norm(hidden))
        if model.config.scale_decoder_outputs:
            hidden = hidden * model.config.d_model**-0.5
        return model.lm_head(hidden)

    def positions(self, model: HFModel) -> None:
        return None


def _stacks(model: HFModel) -> list[tuple[str, HFModel]]:
    """Encoder and, where the model has one, decoder by name."""
    names = ("encoder", "decoder")
    return [(name, getattr(model, name)) for name in names if hasattr(model, name)]


def _stack_blocks(stack: HFModel, stack_name: str) -> list[Block]:
    blocks: list[Block] = []
    for i, block in enumerate(stack.block):
        self_attention, name = block.layer[0].SelfAttention, partial(Sublayer.of, stack_name, i)
        blocks.append(AttentionBlock(name("self"), self_attention, self_attention.o))
        if len(block.layer) == 3:
            cross = block.layer[1].EncDecAttention
            blocks.append(AttentionBlock(name("cross"), cross, cross.o))
        ffn = block.layer[-1].DenseReluDense
        up = (ffn.wi_0, ffn.wi_1) if hasattr(ffn, "wi_0") else (ffn.wi,)
        blocks.append(FfnBlock(name("ffn"), up, ffn.wo))
    return blocks
