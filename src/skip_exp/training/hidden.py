"""Distillation from hidden states: every layer that is left is to see in a text what it saw whole.

The loss is the mean over these layers of ``|h - t|^2``, h the mean of the layer's output over the
text's own tokens, t the dense model's. Both are about the mean over the train rows and in units of
the spread around it, so that a layer which tells all texts apart as the dense one does has a loss
of 0, and one which gives the mean for every text a loss of 1. Layer i learns from layer i (CoFi,
Xia et al. 2022, lets it choose); layers that vanished have no say, see ``models.hidden``. Means
over tokens are small enough to be kept for every train row, so that no step runs the dense model.
"""

from typing import Self

import torch
from torch import Tensor, nn

SMALLEST = 1e-6  # spread; a layer that gives the same for every text has none


class HiddenTargets(nn.Module):
    """The loss, and how the dense model's means were put into numbers of size 1.

    Args:
        weight: of the loss beside that of the labels.
        centre: [layers, H], the mean over the train rows.
        spread: [layers, 1], root of the mean squared distance from it.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, weight: float, centre: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)

    @classmethod
    def of(cls, means: Tensor, weight: float) -> Self:
        """Of the dense model's text means [rows, layers, H]."""
        centre = means.mean(0)
        spread = (means - centre).square().sum(2, keepdim=True).mean(0).sqrt()
        return cls(weight, centre, spread.clamp_min(SMALLEST))

    def scaled(self, means: Tensor) -> Tensor:
        """Text means [n, layers, H] about the centre, in units of the spread."""
        return (means - self.centre) / self.spread

    def loss(self, means: Tensor, targets: Tensor, layers: list[int]) -> Tensor:
        """Text means and scaled targets [B, layers, H] -> mean over the texts and ``layers``."""
        distance = (self.scaled(means) - targets).square().sum(2).mean(0)
        # One by one: a list of indices would be copied to a GPU, and waited for.
        return torch.stack([distance[layer] for layer in layers]).mean()
