"""RoBERTa (Liu et al. 2019): BERT's encoder with positions that count from the padding id."""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers.models.roberta.modeling_roberta import RobertaSelfAttention
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaSelfAttention

from .family import HFModel
from .family_bert import Bert, BertAttention


class Roberta(Bert):
    """Like BERT, with one token type."""

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
