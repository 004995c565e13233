"""A linear layer on the text's hidden states."""

from typing import Any, Self

from torch import Tensor, nn

from skip_exp.models.families.base import Family, HFModel
from skip_exp.models.readouts.base import Encoded, Readout


class HeadReadout(Readout):
    """A trained linear layer on what ``pooling`` makes of the text's hidden states.

    Args:
        pooling: ``mean`` over the text, or ``cls``: its first token.
    """

    def __init__(self, hidden: int, labels: int, pooling: str = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        self.linear = nn.Linear(hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def build(
        cls, model: HFModel, tokenizer: Any, labels: int, words: tuple[str, ...], pooling: str
    ) -> Self:
        return cls(model.config.hidden_size, labels, pooling)

    def forward(self, model: HFModel, family: Family, encoded: Encoded) -> Tensor:
        # fp32 on top of a bf16 backbone, too
        hidden = encoded.text.to(self.linear.weight.dtype)
        if self.pooling == "cls":
            return self.linear(hidden[:, 0])
        weight = encoded.text_mask.to(hidden.dtype)
        total = (hidden * weight[..., None]).sum(1)
        return self.linear(total / weight.sum(1, keepdim=True).clamp_min(1))
