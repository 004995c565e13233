"""T5 (Raffel et al. 2020) and its successors: relative positions, a decoder, FFNs maybe gated."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
)
from transformers.models.t5.modeling_t5 import T5Attention

from .attention import Attention
from .family import Block, Family, HFModel, Mask, Sublayer


class T5BlockAttention(Attention):
    """Replaces ``T5Attention`` (self and cross), output projection included.

    Block 0 adds the relative position bias of all original heads to the mask and hands the sum on.
    Every layer takes the rows of its kept heads. Prefix keys have no position: their bias is zero.
    """

    def __init__(self, original: T5Attention) -> None:
        super().__init__(
            heads=original.n_heads,
            head_dim=original.key_value_proj_dim,
            scaling=original.scaling,
            dropout=original.dropout,
        )
        self.q = original.q
        self.k = original.k
        self.v = original.v
        self.o = original.o
        self.relative_attention_bias: Any = getattr(original, "relative_attention_bias", None)
        self.bidirectional = not original.is_decoder
        self.buckets = original.relative_attention_num_buckets
        self.max_distance = original.relative_attention_max_distance

    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q, self.k, self.v

    def position_bias(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Bias of all original heads, [1, heads, queries, prefix length + keys]."""
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
        x = hidden_states
        source = x if key_value_states is None else key_value_states
        if position_bias is None:
            position_bias = mask
            if self.relative_attention_bias is not None:
                bias = self.position_bias(x.shape[1], source.shape[1], x.device)
                position_bias = bias if mask is None else bias + mask
        # The next layer may have other heads: it gets the bias of all.
        head_bias = position_bias
        if head_bias is not None and self.heads < head_bias.shape[1]:
            head_bias = head_bias.index_select(1, self.head_ids)
        return self.o(self.context(x, source, head_bias)), position_bias, None


class T5(Family):
    """Pre-norm encoder; with the ``seq2seq`` readout also a decoder."""

    name = "t5"
    loaders: ClassVar[dict[str, Any]] = {
        "encoder": AutoModelForTextEncoding,
        "seq2seq": AutoModelForSeq2SeqLM,
        "classifier": AutoModelForSequenceClassification,
    }
    attention: ClassVar[dict[type[nn.Module], Any]] = {T5Attention: T5BlockAttention}

    def blocks(self, model: HFModel) -> list[Block]:
        blocks: list[Block] = []
        for stack_name, stack in _stacks(model):
            for i, block in enumerate(stack.block):
                attention = block.layer[0].SelfAttention
                name = Sublayer(f"{stack_name}.{i}.self")
                blocks.append(Block(name, attention.projections(), attention.o, attention))
                if len(block.layer) == 3:
                    cross = block.layer[1].EncDecAttention
                    name = Sublayer(f"{stack_name}.{i}.cross")
                    blocks.append(Block(name, cross.projections(), cross.o, cross))
                ffn = block.layer[-1].DenseReluDense
                up = (ffn.wi_0, ffn.wi_1) if hasattr(ffn, "wi_0") else (ffn.wi,)
                blocks.append(Block(Sublayer(f"{stack_name}.{i}.ffn"), up, ffn.wo))
        return blocks

    def layers(self, model: HFModel) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for _, stack in _stacks(model):
            layers += [stack.block, stack.final_layer_norm]
        return layers

    def encode(self, model: HFModel, embeds: Tensor, mask: Mask, types: Tensor | None) -> Tensor:
        stack = model.base_model.encoder
        hidden = stack.dropout(embeds)
        bias = None
        for block in stack.block:
            hidden, bias, _ = block(hidden, mask, bias)
        return stack.dropout(stack.final_layer_norm(hidden))

    def decode(
        self, model: HFModel, embeds: Tensor, mask: Mask, hidden: Tensor, seen: Mask
    ) -> Tensor:
        stack = model.base_model.decoder
        x = stack.dropout(embeds)
        bias = None
        cross_bias = None
        for block in stack.block:
            x, bias, cross_bias = block(x, mask, bias, hidden, seen, cross_bias)
        return stack.dropout(stack.final_layer_norm(x))

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        if model.config.scale_decoder_outputs:
            hidden = hidden * model.config.d_model**-0.5
        return model.lm_head(hidden)

    def head(self, model: HFModel) -> tuple[nn.Linear, nn.Linear]:
        return model.classification_head.dense, model.classification_head.out_proj

    def positions(self, model: HFModel) -> None:
        return None


def _stacks(model: HFModel) -> list[tuple[str, HFModel]]:
    """The encoder and, if the model has one, the decoder, by name."""
    core = model.base_model
    return [(name, getattr(core, name)) for name in ("encoder", "decoder") if hasattr(core, name)]
