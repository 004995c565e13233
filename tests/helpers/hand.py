"""A model whose every number can be worked out by hand."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from skip_exp.models.family import Block, Sublayer
from skip_exp.models.prompts import InputPrompt, NoPrompt
from skip_exp.models.surgery import Shape, shape_of


class TwoUnits(nn.Module):
    """One token value x per position; units h = (x, 2x)^power; logits = sum of h over positions.

    The first ``prompt`` positions pass for those of an input prompt.
    """

    def __init__(self, power: int = 1, prompt: int = 0) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.up.weight.data = torch.tensor([[1.0], [2.0]])
        self.down.weight.data = torch.eye(2)
        self.power = power
        self.prompt = InputPrompt(torch.zeros(prompt, 1)) if prompt else NoPrompt()
        self.requires_grad_(False)
        self.readout = SimpleNamespace(kind="head")

    def blocks(self) -> list[Block]:
        return [Block(Sublayer("encoder.0.ffn"), (self.up,), self.down)]

    def shapes(self) -> list[Shape]:
        return [shape_of(block) for block in self.blocks()]

    def encoder_mask(self, mask: Tensor) -> Tensor:
        return mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out = self.down(self.up(input_ids.float()[..., None]) ** self.power)
        return (out * attention_mask[..., None]).sum(1)


def texts(*ids: list[int], labels: list[int]) -> dict[str, Tensor]:
    """A batch of texts; 50 is padding."""
    input_ids = torch.tensor(ids)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 50).long(),
        "labels": torch.tensor(labels),
    }


# x = 1, 3 (and a padded 50): logits 4 and 8; P(1) = S = sigmoid(4), dP/dh = S (1 - S) (-1, +1).
BATCH = texts([1, 3, 50], labels=[1])
S = float(torch.sigmoid(torch.tensor(4.0)))
