"""T5's own answer: how likely its decoder finds each class's label words."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from skip_exp.models.families.base import Family, HFModel, causal_mask
from skip_exp.models.readouts.base import Encoded, Readout, word_pieces


class Seq2SeqReadout(Readout):
    """Log-probability of each class's label words under T5's decoder, in one teacher-forced pass.

    Classes may have several word pieces; a class's score is the sum over its pieces.
    """

    needs: ClassVar[str] = "seq2seq"
    targets: Tensor  # [labels, width]
    real: Tensor  # [labels, width], 0 where a class has fewer pieces

    def __init__(self, word_ids: list[list[int]], start_id: int) -> None:
        super().__init__()
        width = max(len(ids) for ids in word_ids)
        padded = torch.tensor([ids + [0] * (width - len(ids)) for ids in word_ids])
        real = torch.tensor([[1.0] * len(ids) + [0.0] * (width - len(ids)) for ids in word_ids])
        self.register_buffer("targets", padded, persistent=False)
        self.register_buffer("real", real, persistent=False)
        self.start_id = start_id

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        ids = word_pieces(tokenizer, words, labels)
        return cls(ids, model.config.decoder_start_token_id)

    def decoded(self, texts: int) -> Tensor | None:
        return None if self.real.shape[1] == 1 else self.real.bool().repeat(texts, 1)

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        hidden, encoded_mask = encoded.hidden, encoded.key_mask()
        batch, (labels, width) = hidden.shape[0], self.targets.shape
        start = torch.full_like(self.targets[:, :1], self.start_id)
        inputs = torch.cat([start, self.targets[:, :-1]], dim=1)
        if width == 1:  # every class shares the one decoder step
            logits = self._decode(model, family, inputs[:1].expand(batch, -1), hidden, encoded_mask)
            return logits[:, 0].log_softmax(-1, dtype=torch.float32)[:, self.targets[:, 0]]
        repeat = None if encoded_mask is None else encoded_mask.repeat_interleave(labels, 0)
        logits = self._decode(
            model, family, inputs.repeat(batch, 1), hidden.repeat_interleave(labels, 0), repeat
        )
        scores = logits.log_softmax(-1, dtype=torch.float32)
        scores = scores.gather(2, self.targets.repeat(batch, 1)[..., None])[..., 0]
        return (scores.view(batch, labels, width) * self.real).sum(2)

    def _decode(
        self,
        model: HFModel,
        family: Family,
        ids: Tensor,
        hidden: Tensor,
        encoded_mask: Tensor | None,
    ) -> Tensor:
        prefix = model.decoder.block[0].layer[0].SelfAttention.prefix
        length = 0 if prefix is None else prefix[0].shape[0]
        embeds = model.get_input_embeddings()(ids)
        mask = causal_mask(ids.shape[1], length, ids.device)
        return family.decode(model, embeds, mask, hidden, encoded_mask)
