"""Distillation from hidden states: each remaining layer matches its dense counterpart.

The loss is the mean over layers of ``|h - t|^2``, with h the layer's output averaged over the
text's tokens and t the dense model's. Both are standardized over the train rows, so a perfect match
has loss 0, and a layer with the same output for all texts has loss 1. Layer i learns from layer i
(CoFi, Xia et al. 2022, lets it choose); removed layers do not count, see ``models.hidden``. Token
means are small enough to be stored for every train row, so training never runs the dense model.
"""

from typing import Self

import torch
from torch import Tensor, nn

SMALLEST = 1e-6  # lower bound of the spread, which is 0 for constant outputs


class HiddenTargets(nn.Module):
    """The loss and the standardization of the dense model's text means.

    Args:
        weight: weight of the loss, added to the label loss.
        centre: mean over the train rows [layers, H].
        spread: root mean squared distance from the centre [layers, 1].
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
        """From the dense model's text means [rows, layers, H]."""
        centre = means.mean(0)
        spread = (means - centre).square().sum(2, keepdim=True).mean(0).sqrt()
        return cls(weight, centre, spread.clamp_min(SMALLEST))

    def scaled(self, means: Tensor) -> Tensor:
        """Standardize text means [n, layers, H]."""
        return (means - self.centre) / self.spread

    def loss(self, means: Tensor, targets: Tensor, layers: list[int]) -> Tensor:
        """Loss of text means against scaled targets [B, layers, H], averaged over ``layers``."""
        distance = (self.scaled(means) - targets).square().sum(2).mean(0)
        # One by one: indexing by a list copies it to the GPU and synchronizes.
        return torch.stack([distance[layer] for layer in layers]).mean()
