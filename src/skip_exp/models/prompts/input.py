"""Input prompts (Lester et al. 2021): embeddings put before the text's word embeddings.

Each costs a full token in every layer.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.prompts.base import SoftPrompt


class InputPrompt(SoftPrompt):
    """Virtual word embeddings [length, hidden]."""

    at_input: ClassVar[bool] = True

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Parameter(embedding.clone())

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        words = model.get_input_embeddings().weight.detach()
        return cls(torch.zeros(length, words.shape[1]) if ids is None else words[ids])

    @property
    def length(self) -> int:
        return self.embedding.shape[0]

    def embed(self, embeds: Tensor) -> Tensor:
        soft = self.embedding.to(embeds.dtype).expand(embeds.shape[0], -1, -1)
        return torch.cat([soft, embeds], dim=1)
