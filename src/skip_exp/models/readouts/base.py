"""The interface of a readout, and label words as token ids."""

from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from skip_exp.errors import ConfigError
from skip_exp.models.families.base import Family, HFModel, key_mask


@dataclass(frozen=True)
class Encoded:
    """What the encoder made of a batch: V virtual positions, then T of the text.

    Attributes:
        hidden: [B, V + T, H].
        mask: 0/1 [B, V + T].
        ids: token ids of the text [B, T], for readouts that look at them.
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
        """0/1 [B, T]."""
        return self.mask[:, self.virtual :]

    def key_mask(self) -> Tensor | None:
        """Additive mask of all positions; None where nothing is padded."""
        return key_mask(self.mask, 0)


class Readout(nn.Module):
    """Base of all readouts.

    Attributes:
        needs: what the backbone must have: encoder, mlm (a masked language model's head) or
            seq2seq (a decoder).
        added: tokens that it adds to each text.
    """

    needs: ClassVar[str] = "encoder"
    added: ClassVar[int] = 0

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        """A new readout for a task of ``labels`` classes named by ``words``. Raises ConfigError."""
        raise NotImplementedError

    def text_ids(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, T] with what the readout adds to each text, [B, T + added]."""
        return input_ids

    def decoded(self, texts: int) -> Tensor | None:
        """Boolean mask [R, T] of a decoder's positions that count; None: all of them do.

        Rows R: the texts, or the labels of each of them in turn.
        """
        return None

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        """Class logits [B, labels]."""
        raise NotImplementedError


def word_pieces(tokenizer: Any, words: tuple[str, ...], labels: int) -> list[list[int]]:
    """Token ids of each label word.

    Raises:
        ConfigError: there is not one for each label, or one that could never be the answer: its
            tokens begin with all those of another, which is at least as likely.
    """
    if len(words) != labels:
        raise ConfigError("task.words", list(words), f"needs one label word for each of {labels}")
    ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    for word, own in zip(words, ids, strict=True):
        if not own or tokenizer.unk_token_id in own:
            raise ConfigError("task.words", word, "the tokenizer does not know it")
    for (a, first), (b, second) in permutations(zip(words, ids, strict=True), 2):
        if second[: len(first)] == first:
            why = f"begins with all tokens of {a!r}, so that it would never be the answer"
            raise ConfigError("task.words", b, why)
    return ids
