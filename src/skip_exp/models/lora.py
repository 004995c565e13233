"""Low-rank updates of linear layers (LoRA, Hu et al. 2021), trained as factors, merged to serve.

The weight is W + alpha / rank * B @ A with alpha = rank, so the scale is 1. Outside a fit
``weight`` is this sum, so attribution and timing see plain linear layers. During a fit W and the
factors are applied side by side, so no gradient has the size of W. Factors have PEFT's names,
``lora_A`` [rank, in] and ``lora_B`` [out, rank].
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import replace

FACTORS = ("lora_A", "lora_B")


class LowRankLinear(nn.Linear):
    """``linear`` with an update of its weight, which starts at zero.

    Attributes:
        lora_A, lora_B: trained factors [rank, in] and [out, rank].
        base: the frozen weight without the update; None while unmerged, when ``weight`` is it.
    """

    base: Tensor | None

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        reach = self.in_features**-0.5  # as PyTorch initialises a linear layer
        a = torch.empty(rank, self.in_features).uniform_(-reach, reach, generator=generator)
        self.lora_B = nn.Parameter(self.weight.new_zeros(self.out_features, rank))
        self.lora_A = nn.Parameter(a.to(self.weight))
        self.register_buffer("base", self.weight.detach(), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        out = super().forward(input)
        if self.base is not None:
            return out
        return out + F.linear(F.linear(input, self.lora_A), self.lora_B)

    def unmerge(self) -> None:
        """Take the update out of the weight, exactly."""
        if self.base is not None:
            self.weight, self.base = nn.Parameter(self.base, requires_grad=False), None

    def merge(self) -> None:
        """Put the current update into a weight that this layer owns."""
        base = self.weight.detach() if self.base is None else self.base
        merged = base + self.lora_B.detach() @ self.lora_A.detach()
        self.weight, self.base = nn.Parameter(merged, requires_grad=False), base

    def plain(self) -> nn.Linear:
        """A plain linear layer with the current weight."""
        linear = nn.Linear(1, 1, bias=False, device="meta")  # torch warns about empty ones
        linear.in_features, linear.out_features = self.in_features, self.out_features
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)


def layers(module: nn.Module) -> list[LowRankLinear]:
    """List the layers of ``module`` that have an update."""
    return [layer for layer in module.modules() if isinstance(layer, LowRankLinear)]


def factors(module: nn.Module) -> list[nn.Parameter]:
    """List the factors of every update, B before A."""
    return [factor for layer in layers(module) for factor in (layer.lora_B, layer.lora_A)]


def add(module: nn.Module, linears: Iterable[nn.Linear], rank: int, seed: int) -> None:
    """Give each of ``linears`` an update, in place, unless it has one or is empty."""
    generator = torch.Generator().manual_seed(seed)
    bare = [x for x in linears if not isinstance(x, LowRankLinear) and x.weight.numel()]
    replace(module, {linear: LowRankLinear(linear, rank, generator) for linear in bare})


def merge(module: nn.Module) -> None:
    """Merge every update."""
    for layer in layers(module):
        layer.merge()


def unmerge(module: nn.Module) -> None:
    """Take every update out of its weight."""
    for layer in layers(module):
        layer.unmerge()


def fold(module: nn.Module) -> None:
    """Replace every layer with an update by a plain one with the merged weight."""
    merge(module)
    replace(module, {layer: layer.plain() for layer in layers(module)})


@contextmanager
def unmerge_within(module: nn.Module) -> Iterator[None]:
    """Unmerge every update within the block and merge all of them at its end."""
    unmerge(module)
    yield
    merge(module)
