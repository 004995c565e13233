"""A readout by maximum: one telling word is enough, wherever it stands in the text."""

from typing import Any, Self

from torch import Tensor, nn

from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.readouts import Encoded, Readout


class MyReadout(Readout):
    """A linear layer on the largest value of each hidden dimension over the text.

    ``needs`` is the parent's, "encoder", which every family has.
    """

    def __init__(self, hidden: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, labels)

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        """A new readout for a task; ``words`` (label words) and ``pooling`` are not used."""
        return cls(model.config.hidden_size, labels)

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        """Class logits [B, labels] from the text's hidden states [B, T, H]."""
        hidden = encoded.text.to(self.linear.weight.dtype)  # fp32, also on a bf16 backbone
        padding = encoded.text_mask[..., None] == 0
        return self.linear(hidden.masked_fill(padding, float("-inf")).amax(1))
