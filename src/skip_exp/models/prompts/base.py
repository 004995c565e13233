"""The interface of a soft prompt; the rest of the model knows no kinds."""

from typing import ClassVar, Self

from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Family, HFModel
from skip_exp.models.sites import Keep


class SoftPrompt(nn.Module):
    """Base of all kinds: a prompt of no tokens that changes nothing.

    A kind at the input overrides ``build``, ``length`` and ``embed``; one of keys and values
    ``build``, ``length``, ``install`` and ``cut``.

    Attributes:
        at_input: whether its tokens stand before the text at the encoder's input; otherwise they
            are keys and values beside the text's own.
    """

    at_input: ClassVar[bool] = False

    @classmethod
    def build(
        cls,
        model: HFModel,
        family: Family,
        length: int,
        ids: Tensor | None = None,
        decoder: bool = False,
    ) -> Self:
        """A new prompt for a backbone.

        Args:
            length: virtual tokens.
            ids: token ids [length] to start from; None: zeros, to be loaded over.
            decoder: whether T5's decoder gets a prompt of its own, too.
        """
        return cls()

    @property
    def length(self) -> int:
        """Virtual tokens, or pairs of keys and values."""
        return 0

    @property
    def input_length(self) -> int:
        """Virtual tokens at the encoder's input."""
        return self.length if self.at_input else 0

    def embed(self, embeds: Tensor) -> Tensor:
        """Word embeddings [B, T, H] of the texts -> [B, input_length + T, H]."""
        return embeds

    def install(self, blocks: dict[str, AttentionBlock]) -> None:
        """Put keys and values in place; called before every forward pass."""
        for block in blocks.values():
            block.attention.prefix = None

    def cut(self, keep: Keep) -> None:
        """Keep what the backbone keeps (see ``pruning.surgery``)."""


class NoPrompt(SoftPrompt):
    """The baselines that train a readout alone, or the whole model."""
