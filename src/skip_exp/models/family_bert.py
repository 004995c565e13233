"""BERT (Devlin et al. 2019), and RoBERTa and XLM-R, whose positions count from the padding id."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers.models.bert.modeling_bert import BertSelfAttention
from transformers.models.roberta.modeling_roberta import RobertaSelfAttention
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaSelfAttention

from .attention import Attention
from .family import Block, Family, HFModel, Mask, Sublayer


class BertAttention(Attention):
    """Replaces ``BertSelfAttention`` and ``RobertaSelfAttention``."""

    def __init__(self, original: Any) -> None:
        super().__init__(
            heads=original.num_attention_heads,
            head_dim=original.attention_head_size,
            scaling=original.scaling,
            dropout=original.dropout.p,
        )
        self.query = original.query
        self.key = original.key
        self.value = original.value

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: object
    ) -> tuple[Tensor, None]:
        return self.context(hidden_states, hidden_states, attention_mask), None


class Bert(Family):
    """Post-norm encoder with learnt positions and token types."""

    name = "bert"
    loaders: ClassVar[dict[str, Any]] = {
        "encoder": AutoModel,
        "mlm": AutoModelForMaskedLM,
        "classifier": AutoModelForSequenceClassification,
    }
    attention: ClassVar[dict[type[nn.Module], Any]] = {BertSelfAttention: BertAttention}

    def loader_options(self, needs: str) -> dict[str, bool]:
        # The pooler belongs to the next-sentence objective; no readout reads it.
        return {"add_pooling_layer": False} if needs == "encoder" else {}

    def blocks(self, model: HFModel) -> list[Block]:
        blocks: list[Block] = []
        for i, layer in enumerate(model.base_model.encoder.layer):
            attention = layer.attention.self
            out = layer.attention.output.dense
            name = Sublayer(f"encoder.{i}.self")
            blocks.append(Block(name, attention.projections(), out, attention))
            name = Sublayer(f"encoder.{i}.ffn")
            blocks.append(Block(name, (layer.intermediate.dense,), layer.output.dense))
        return blocks

    def layers(self, model: HFModel) -> list[nn.Module]:
        return [model.base_model.encoder.layer]

    def encode(self, model: HFModel, embeds: Tensor, mask: Mask, types: Tensor | None) -> Tensor:
        core = model.base_model
        positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
        if types is None:
            types = embeds.new_zeros(embeds.shape[:2], dtype=torch.long)
        hidden = core.embeddings(
            inputs_embeds=embeds,
            position_ids=positions + self.position_offset(core.config),
            token_type_ids=types,
        )
        return core.encoder(hidden, attention_mask=mask).last_hidden_state

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        return model.cls(hidden)

    def head(self, model: HFModel) -> tuple[nn.Linear, nn.Linear]:
        return model.bert.pooler.dense, model.classifier


class Roberta(Bert):
    """RoBERTa (Liu et al. 2019): one token type."""

    name = "roberta"
    attention: ClassVar[dict[type[nn.Module], Any]] = {RobertaSelfAttention: BertAttention}

    def position_offset(self, config: Any) -> int:
        return config.pad_token_id + 1

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        return model.lm_head(hidden)

    def head(self, model: HFModel) -> tuple[nn.Linear, nn.Linear]:
        return model.classifier.dense, model.classifier.out_proj


class XlmRoberta(Roberta):
    """XLM-R (Conneau et al. 2020): RoBERTa in a hundred languages, with SentencePiece."""

    name = "xlm-roberta"
    attention: ClassVar[dict[type[nn.Module], Any]] = {XLMRobertaSelfAttention: BertAttention}
