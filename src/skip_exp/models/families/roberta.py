"""RoBERTa (Liu et al. 2019): BERT's encoder with positions that count from the padding id."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel
from transformers.models.roberta.modeling_roberta import RobertaSelfAttention

from skip_exp.models.families.base import HFModel
from skip_exp.models.families.bert import Bert, BertAttention


class Roberta(Bert):
    """Like BERT, with one token type."""

    name = "roberta"
    attention: ClassVar[dict[type[nn.Module], Any]] = {RobertaSelfAttention: BertAttention}

    def position_offset(self, config: Any) -> int:
        return config.pad_token_id + 1

    def word_scores(self, model: HFModel, hidden: Tensor) -> Tensor:
        return model.lm_head(hidden)


def as_roberta(bert: HFModel) -> HFModel:
    """Convert a BERT model without a pooler into a RoBERTa model that computes the same.

    The padding id is 0, so BERT's table of positions gets one more row at its start.
    """
    config = bert.config.to_dict()
    config |= {"pad_token_id": 0, "max_position_embeddings": config["max_position_embeddings"] + 1}
    for key in ("model_type", "architectures"):
        config.pop(key)
    roberta = RobertaModel(RobertaConfig(**config), add_pooling_layer=False)
    state: dict[str, Tensor] = dict(bert.state_dict())
    name = "embeddings.position_embeddings.weight"
    state[name] = torch.cat([torch.zeros_like(state[name][:1]), state[name]])
    roberta.load_state_dict(state)
    return roberta
