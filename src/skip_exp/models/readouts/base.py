"""What a readout has to say of itself; the rest of the model knows no kinds."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

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
