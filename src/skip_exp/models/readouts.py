"""Readouts: how class logits come out of the frozen backbone.

``head`` trains a linear layer on the text's hidden states. ``mlm`` scores one label word per class
at a [MASK] token. ``seq2seq`` scores label words under T5's decoder. ``classifier`` is the head of
a fine-tuned classifier.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .family import Family, HFModel, causal_mask, key_mask, linear_of


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for a batch: V virtual positions, then T of the text.

    Attributes:
        hidden: hidden states [B, V + T, H].
        mask: 0/1 mask [B, V + T].
        virtual: V.
        ids: token ids of the text [B, T].
    """

    hidden: Tensor
    mask: Tensor
    virtual: int
    ids: Tensor | None = None

    @property
    def text(self) -> Tensor:
        """Hidden states of the text's own positions [B, T, H]."""
        return self.hidden[:, self.virtual :]

    @property
    def text_mask(self) -> Tensor:
        """0/1 mask of the text [B, T]."""
        return self.mask[:, self.virtual :]

    def pool(self, how: str, dtype: torch.dtype) -> Tensor:
        """The text's first hidden state (``cls``) or the mean of all, in ``dtype``: [B, H]."""
        hidden = self.text.to(dtype)
        if how == "cls":
            return hidden[:, 0]
        weight = self.text_mask.to(hidden)
        total = (hidden * weight[..., None]).sum(1)
        return total / weight.sum(1, keepdim=True).clamp_min(1)


class Readout(nn.Module):
    """Base class of all readouts.

    Attributes:
        needs: what the backbone must have: ``encoder``, ``mlm`` (a masked language model's head),
            ``seq2seq`` (a decoder) or ``classifier`` (a fine-tuned head).
        added: number of tokens that it adds to each text.
    """

    needs: ClassVar[str] = "encoder"
    added: ClassVar[int] = 0

    @classmethod
    def build(cls, model: HFModel, family: Family, labels: int, **about: Any) -> Self:
        """Build a readout for ``labels`` classes, of zeros where it has weights of its own.

        Args:
            about: of these, those that it needs: ``words``, the token ids of each label word;
                ``mask_id``, the id of [MASK]; ``pooling``, ``mean`` or ``cls``.
        """
        raise NotImplementedError

    def text_ids(self, input_ids: Tensor) -> Tensor:
        """Add this readout's tokens to token ids [B, T], giving [B, T + added]."""
        return input_ids

    def mask_decoder(self, attention_mask: Tensor) -> Tensor | None:
        """Boolean mask [R, T] of a decoder's real positions; None: all are real.

        R is the number of texts, or texts x labels with the labels of a text in a row.

        Args:
            attention_mask: 0/1 mask [B, T] of the texts.
        """
        return None

    def logits(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        """Compute class logits [B, labels]."""
        raise NotImplementedError


class HeadReadout(Readout):
    """A trained linear layer on the pooled hidden states of the text.

    Args:
        pooling: ``mean`` over the text, or ``cls`` for its first token.
    """

    def __init__(self, hidden: int, labels: int, pooling: str = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        weight = nn.Parameter(torch.zeros(labels, hidden))
        self.linear = linear_of(weight, nn.Parameter(torch.zeros(labels)))

    @classmethod
    def build(cls, model: HFModel, family: Family, labels: int, **about: Any) -> Self:
        return cls(model.config.hidden_size, labels, about["pooling"])

    def logits(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        with keep_fp32(encoded.hidden):
            return self.linear(encoded.pool(self.pooling, self.linear.weight.dtype))


@contextmanager
def watch_features(readout: Readout) -> Iterator[list[Tensor]]:
    """What the linear of a head gets in each call within the block [rows, in].

    Example:
        >>> with watch_features(model.readout) as features:
        ...     logits = model(**batch)
    """
    features: list[Tensor] = []

    def store(_linear: nn.Module, inputs: tuple[Tensor]) -> None:
        features.append(inputs[0])

    if isinstance(readout, HeadReadout):
        with readout.linear.register_forward_pre_hook(store):
            yield features
    else:
        yield features


class MlmReadout(Readout):
    """The masked language model's logits of one label word per class at a [MASK] token.

    The [MASK] stands behind the first token, so no search for the end of each text is needed.
    """

    needs: ClassVar[str] = "mlm"
    added: ClassVar[int] = 1

    def __init__(self, word_ids: Tensor, mask_id: int) -> None:
        super().__init__()
        self.word_ids: Tensor = nn.Buffer(word_ids)  # [labels]
        self.mask_id = mask_id

    @classmethod
    def build(cls, model: HFModel, family: Family, labels: int, **about: Any) -> Self:
        return cls(torch.tensor([ids[0] for ids in about["words"]]), about["mask_id"])

    def text_ids(self, input_ids: Tensor) -> Tensor:
        mask = torch.full_like(input_ids[:, :1], self.mask_id)
        return torch.cat([input_ids[:, :1], mask, input_ids[:, 1:]], dim=1)

    def logits(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        return family.word_scores(model, encoded.text[:, 1])[:, self.word_ids]


class Seq2SeqReadout(Readout):
    """Log-probability of each class's label words under T5's decoder, in one teacher-forced pass.

    A label word may have several pieces; a class's logit is the sum over its pieces.
    """

    needs: ClassVar[str] = "seq2seq"

    def __init__(self, words: Sequence[Sequence[int]], start_id: int) -> None:
        super().__init__()
        targets = [torch.tensor(ids) for ids in words]
        real = [torch.ones(len(ids), dtype=torch.bool) for ids in words]
        # [labels, width]; not real where a class has fewer pieces.
        self.targets: Tensor = nn.Buffer(pad_sequence(targets, batch_first=True))
        self.real: Tensor = nn.Buffer(pad_sequence(real, batch_first=True))
        self.start_id = start_id

    @classmethod
    def build(cls, model: HFModel, family: Family, labels: int, **about: Any) -> Self:
        return cls(about["words"], model.config.decoder_start_token_id)

    def words(self) -> list[list[int]]:
        """The token ids of each class's label word."""
        rows = zip(self.targets.tolist(), self.real.sum(1).tolist(), strict=True)
        return [ids[:count] for ids, count in rows]

    def mask_decoder(self, attention_mask: Tensor) -> Tensor | None:
        if self.real.shape[1] == 1:
            return None
        return self.real.repeat(len(attention_mask), 1)

    def logits(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        hidden = encoded.hidden
        seen = key_mask(encoded.mask, 0)
        batch = hidden.shape[0]
        labels, width = self.targets.shape
        start = torch.full_like(self.targets[:, :1], self.start_id)
        inputs = torch.cat([start, self.targets[:, :-1]], dim=1)
        if width == 1:  # all classes share the one decoder step
            states = _decode(model, family, inputs[:1].expand(batch, -1), hidden, seen)
            logits = family.word_scores(model, states)
            return logits[:, 0].log_softmax(-1, dtype=torch.float32)[:, self.targets[:, 0]]
        # A text is decoded once per class, the classes of a text in a row.
        hidden = hidden.repeat_interleave(labels, 0)
        seen = None if seen is None else seen.repeat_interleave(labels, 0)
        states = _decode(model, family, inputs.repeat(batch, 1), hidden, seen)
        scores = family.word_scores(model, states).log_softmax(-1, dtype=torch.float32)
        scores = scores.gather(2, self.targets.repeat(batch, 1)[..., None])[..., 0]
        return (scores.view(batch, labels, width) * self.real).sum(2)


class ClassifierReadout(Readout):
    """The head of a fine-tuned classifier: two linear layers on one hidden state.

    That is the state of the first token, in a ModernBERT maybe the mean over the text, or, in T5,
    that of the decoder at the last token of the text, which it reads shifted by one.

    Args:
        between: what stands between both layers.
        pooling: ``cls`` or ``mean``; T5 has none.
    """

    needs: ClassVar[str] = "classifier"

    def __init__(
        self, dense: nn.Linear, between: nn.Module, out: nn.Linear, pooling: str = "cls"
    ) -> None:
        super().__init__()
        # Other models share the backbone's own.
        self.dense, self.out, self.between = copy.deepcopy((dense, out, between))
        self.pooling = pooling
        self.requires_grad_(True)

    @classmethod
    def build(cls, model: HFModel, family: Family, labels: int, **about: Any) -> Self:
        dense, out = family.head(model)
        return cls(
            dense, family.between(model), out, getattr(model.config, "classifier_pooling", "cls")
        )

    def mask_decoder(self, attention_mask: Tensor) -> Tensor | None:
        return attention_mask.bool()

    def logits(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        dtype = self.dense.weight.dtype
        if model.config.is_encoder_decoder:
            state = self._last(model, family, encoded).to(dtype)
        else:
            state = encoded.pool(self.pooling, dtype)
        with keep_fp32(state):
            return self.out(self.between(self.dense(state)))

    def _last(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        """T5's decoder at each text's last token [B, H]."""
        ids = encoded.ids
        assert ids is not None
        start = torch.full_like(ids[:, :1], model.config.decoder_start_token_id)
        shifted = torch.cat([start, ids[:, :-1]], dim=1)
        states = _decode(model, family, shifted, encoded.hidden, key_mask(encoded.mask, 0))
        last = encoded.text_mask.sum(1).long() - 1
        return states[torch.arange(ids.shape[0], device=ids.device), last]


def keep_fp32(x: Tensor) -> AbstractContextManager[Any]:
    """The readout's own precision, fp32 also on a bf16 backbone: in bf16 classes would tie."""
    kind = x.device.type
    # An export cannot trace a switch that is off already, and a meta device has none.
    is_on = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if is_on else nullcontext()


def _decode(
    model: HFModel, family: Family, ids: Tensor, hidden: Tensor, seen: Tensor | None
) -> Tensor:
    mask = causal_mask(ids.shape[1], ids.device)
    return family.decode(model, model.get_input_embeddings()(ids), mask, hidden, seen)


READOUT_CLASSES: dict[str, type[Readout]] = {  # by `backbone.readout`
    "head": HeadReadout,
    "mlm": MlmReadout,
    "seq2seq": Seq2SeqReadout,
    "classifier": ClassifierReadout,
}
