"""How class logits come out of the frozen backbone."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.errors import ConfigError
from skip_exp.models.families import Family, HFModel, causal_mask


class HeadReadout(nn.Module):
    """A trained linear layer on the mean of the text's hidden states, or on its first token."""

    kind = "head"

    def __init__(self, hidden: int, labels: int, pooling: str = "mean") -> None:
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise ConfigError("backbone.pooling", pooling, "must be mean or cls")
        self.pooling = pooling
        self.linear = nn.Linear(hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def text_ids(self, input_ids: Tensor) -> Tensor:
        return input_ids

    def forward(
        self, model: HFModel, family: Family, hidden: Tensor, mask: Tensor, _: Tensor | None
    ) -> Tensor:
        """[B, T, H] hidden states of the text and its 0/1 mask [B, T] -> logits [B, labels]."""
        hidden = hidden.to(self.linear.weight.dtype)  # fp32 on top of a bf16 backbone, too
        if self.pooling == "cls":
            return self.linear(hidden[:, 0])
        weight = mask.to(hidden.dtype)[..., None]
        return self.linear((hidden * weight).sum(1) / weight.sum(1))


class MlmReadout(nn.Module):
    """The masked language model's scores of one label word per class at a [MASK] token.

    The [MASK] stands behind the first token, so that it needs no search for each text's end.
    """

    kind = "mlm"
    word_ids: Tensor  # [labels]

    def __init__(self, word_ids: Tensor, mask_id: int) -> None:
        super().__init__()
        self.register_buffer("word_ids", word_ids, persistent=False)
        self.mask_id = mask_id

    def text_ids(self, input_ids: Tensor) -> Tensor:
        mask = torch.full_like(input_ids[:, :1], self.mask_id)
        return torch.cat([input_ids[:, :1], mask, input_ids[:, 1:]], dim=1)

    def forward(
        self, model: HFModel, family: Family, hidden: Tensor, mask: Tensor, _: Tensor | None
    ) -> Tensor:
        head = model.cls if hasattr(model, "cls") else model.lm_head
        return head(hidden[:, 1])[:, self.word_ids]


class Seq2SeqReadout(nn.Module):
    """Log-probability of each class's label words under T5's decoder, in one teacher-forced pass.

    Classes may have several word pieces; a class's score is the sum over its pieces.
    """

    kind = "seq2seq"
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

    def text_ids(self, input_ids: Tensor) -> Tensor:
        return input_ids

    def forward(
        self,
        model: HFModel,
        family: Family,
        hidden: Tensor,
        mask: Tensor,
        encoded_mask: Tensor | None,
    ) -> Tensor:
        """``hidden`` [B, S, H]: all encoded positions; ``encoded_mask``: their additive mask."""
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
        assert family.decode is not None
        return family.decode(model, embeds, mask, hidden, encoded_mask)


Readout = HeadReadout | MlmReadout | Seq2SeqReadout


def build_readout(
    kind: str,
    model: HFModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    labels: int,
    words: tuple[str, ...],
    pooling: str,
) -> Readout:
    """The readout ``kind`` for a task of ``labels`` classes named by ``words``."""
    if kind == "head":
        return HeadReadout(model.config.hidden_size, labels, pooling)
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    ids = [tokenizer(w, add_special_tokens=False)["input_ids"] for w in words]
    if kind == "mlm":
        if long := [w for w, i in zip(words, ids, strict=True) if len(i) != 1]:
            raise ConfigError("task.words", long[0], "the mlm readout needs words of one piece")
        return MlmReadout(torch.tensor([i[0] for i in ids]), tokenizer.mask_token_id)
    return Seq2SeqReadout(ids, model.config.decoder_start_token_id)
