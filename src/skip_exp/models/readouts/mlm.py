"""The masked language model's own answer at a [MASK]."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from skip_exp.errors import ConfigError
from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.readouts.base import Encoded, Readout, word_pieces


class MlmReadout(Readout):
    """The masked language model's scores of one label word per class at a [MASK] token.

    The [MASK] stands behind the first token, so that it needs no search for each text's end.
    """

    needs: ClassVar[str] = "mlm"
    added: ClassVar[int] = 1
    word_ids: Tensor  # [labels]

    def __init__(self, word_ids: Tensor, mask_id: int) -> None:
        super().__init__()
        self.register_buffer("word_ids", word_ids, persistent=False)
        self.mask_id = mask_id

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        ids = word_pieces(tokenizer, words, labels)
        if long := [w for w, i in zip(words, ids, strict=True) if len(i) != 1]:
            raise ConfigError("task.words", long[0], "the mlm readout needs words of one piece")
        return cls(torch.tensor([i[0] for i in ids]), tokenizer.mask_token_id)

    def text_ids(self, input_ids: Tensor) -> Tensor:
        mask = torch.full_like(input_ids[:, :1], self.mask_id)
        return torch.cat([input_ids[:, :1], mask, input_ids[:, 1:]], dim=1)

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        return family.word_scores(model, encoded.text[:, 1])[:, self.word_ids]
