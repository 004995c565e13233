"""What differs between BERT, RoBERTa and T5: where layers and linears are, how text is encoded.

Everything else (prompts, readouts, attribution, surgery, skills) goes through these descriptions,
so that there is one pipeline for all families.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, T5EncoderModel, T5ForConditionalGeneration

from skip_exp.models.attention import Attention
from skip_exp.models.sites import Shape, Sublayer

HFModel = Any  # a Hugging Face model: how its submodules are named has no static type
HIDDEN = -1e4  # additive mask of a padding key: exp() underflows to 0 in fp16, bf16 and fp32


@dataclass(frozen=True)
class Stream:
    """Where the hidden state passes once a sublayer's output was added to it, [R, T, H].

    What enters ``module`` (the LayerNorm behind the sum) or, where ``before`` is not set, what
    leaves it, be it alone or the first of several.
    """

    module: nn.Module
    before: bool


@dataclass(frozen=True)
class AttentionBlock:
    """One attention sublayer, e.g. ``encoder.3.self``."""

    name: Sublayer
    attention: Attention
    output: nn.Linear
    stream: Stream

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
    stream: Stream

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


@dataclass(frozen=True)
class Family:
    """How to reach into one kind of transformer.

    Attributes:
        name: ``bert``, ``roberta`` or ``t5``.
        loaders: what a readout needs (encoder, mlm or seq2seq) -> Hugging Face class that has it.
        blocks: model -> its sublayers in order of execution (only those in use).
        encode: (model, embeddings [B, T, H], additive mask, token types) -> hidden [B, T, H].
        layers: model -> the lists of layers in use.
        positions: model -> longest input in tokens, or None where unlimited.
        decode: T5's decoder (see :func:`t5_decode`), or None.
    """

    name: str
    loaders: dict[str, Any]
    blocks: Callable[[HFModel], list[Block]]
    encode: Callable[[HFModel, Tensor, Tensor | None, Tensor | None], Tensor]
    layers: Callable[[HFModel], list[nn.Module]]
    positions: Callable[[HFModel], int | None]
    decode: Callable[..., Tensor] | None = None


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


# --- BERT and RoBERTa ---------------------------------------------------------------------------


def _bert_core(model: HFModel) -> HFModel:
    return getattr(model, model.base_model_prefix, model)


def _bert_blocks(model: HFModel) -> list[Block]:
    blocks: list[Block] = []
    for i, layer in enumerate(_bert_core(model).encoder.layer):
        attention, name = layer.attention, partial(Sublayer.of, "encoder", i)
        of_both = [Stream(part.output.LayerNorm, before=True) for part in (attention, layer)]
        dense, up = attention.output.dense, (layer.intermediate.dense,)
        blocks.append(AttentionBlock(name("self"), attention.self, dense, of_both[0]))
        blocks.append(FfnBlock(name("ffn"), up, layer.output.dense, of_both[1]))
    return blocks


def _bert_encode(
    model: HFModel, embeds: Tensor, mask: Tensor | None, token_types: Tensor | None
) -> Tensor:
    core = _bert_core(model)
    offset = core.config.pad_token_id + 1 if core.config.model_type == "roberta" else 0
    positions = torch.arange(embeds.shape[1], device=embeds.device)[None] + offset
    if token_types is None:
        token_types = embeds.new_zeros(embeds.shape[:2], dtype=torch.long)
    hidden = core.embeddings(
        inputs_embeds=embeds, position_ids=positions, token_type_ids=token_types
    )
    return core.encoder(hidden, attention_mask=mask).last_hidden_state


def _bert_layers(model: HFModel) -> list[nn.Module]:
    return [_bert_core(model).encoder.layer]


def _bert_positions(model: HFModel) -> int:
    config = model.config
    offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return config.max_position_embeddings - offset


# --- T5 -----------------------------------------------------------------------------------------


def _t5_stack_blocks(stack: Any, stack_name: str) -> list[Block]:
    blocks: list[Block] = []
    for i, block in enumerate(stack.block):
        self_attention, name = block.layer[0].SelfAttention, partial(Sublayer.of, stack_name, i)
        streams = [Stream(sublayer, before=False) for sublayer in block.layer]
        blocks.append(AttentionBlock(name("self"), self_attention, self_attention.o, streams[0]))
        if len(block.layer) == 3:
            cross = block.layer[1].EncDecAttention
            blocks.append(AttentionBlock(name("cross"), cross, cross.o, streams[1]))
        ffn = block.layer[-1].DenseReluDense
        up = (ffn.wi_0, ffn.wi_1) if hasattr(ffn, "wi_0") else (ffn.wi,)
        blocks.append(FfnBlock(name("ffn"), up, ffn.wo, streams[-1]))
    return blocks


def _t5_blocks(model: HFModel) -> list[Block]:
    blocks = _t5_stack_blocks(model.encoder, "encoder")
    if hasattr(model, "decoder"):
        blocks += _t5_stack_blocks(model.decoder, "decoder")
    return blocks


def _t5_encode(
    model: HFModel, embeds: Tensor, mask: Tensor | None, token_types: Tensor | None
) -> Tensor:
    stack = model.encoder
    hidden, bias = stack.dropout(embeds), None
    for block in stack.block:
        hidden, bias, _ = block(hidden, mask, bias)
    return stack.dropout(stack.final_layer_norm(hidden))


def t5_decode(
    model: HFModel,
    embeds: Tensor,
    mask: Tensor | None,
    encoded: Tensor,
    encoded_mask: Tensor | None,
) -> Tensor:
    """Vocabulary logits [B, T, V] of T5's decoder, teacher-forced on ``embeds`` [B, T, H].

    ``mask`` hides later positions, ``encoded_mask`` the padding of ``encoded`` [B, S, H].
    """
    stack = model.decoder
    hidden, bias, cross_bias = stack.dropout(embeds), None, None
    for block in stack.block:
        hidden, bias, cross_bias = block(hidden, mask, bias, encoded, encoded_mask, cross_bias)
    hidden = stack.dropout(stack.final_layer_norm(hidden))
    if model.config.scale_decoder_outputs:
        hidden = hidden * model.config.d_model**-0.5
    return model.lm_head(hidden)


def _t5_layers(model: HFModel) -> list[nn.Module]:
    stacks = [model.encoder] + ([model.decoder] if hasattr(model, "decoder") else [])
    return [part for stack in stacks for part in (stack.block, stack.final_layer_norm)]


def _unlimited(model: HFModel) -> None:
    return None


_BERT_LOADERS = {"encoder": AutoModel, "mlm": AutoModelForMaskedLM}
FAMILIES = {
    "bert": Family(
        "bert", _BERT_LOADERS, _bert_blocks, _bert_encode, _bert_layers, _bert_positions
    ),
    "roberta": Family(
        "roberta", _BERT_LOADERS, _bert_blocks, _bert_encode, _bert_layers, _bert_positions
    ),
    "t5": Family(
        "t5",
        {"encoder": T5EncoderModel, "seq2seq": T5ForConditionalGeneration},
        _t5_blocks,
        _t5_encode,
        _t5_layers,
        _unlimited,
        t5_decode,
    ),
}
