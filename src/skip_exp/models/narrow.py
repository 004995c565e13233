"""Remove neurons from a model, in place: nothing is masked, the weights are smaller."""

import torch
from torch import Tensor, nn

from .family import AttentionBlock, replace
from .sites import Keep
from .soft_prompt import SoftPromptModel


def narrow(model: SoftPromptModel, keep: Keep, layers: int | None = None) -> None:
    """Keep only the neurons in ``keep`` (see :func:`skip_exp.pruning.surgery.cut`)."""
    if layers is not None:
        model.family.keep_first(model.backbone, layers)
        model.prompt.keep_first(layers)
    for block in model.blocks():
        kept = keep.get(block.name.site)
        if kept is None:
            continue
        if isinstance(block, AttentionBlock):
            block.attention.keep_heads(kept)
            dims = torch.arange(block.attention.head_dim, device=kept.device)
            kept = (kept[:, None] * len(dims) + dims).flatten()  # rows of whole heads
        output, *inner = block.linears()
        for linear in inner:
            narrow_out(linear, kept)
        narrow_in(output, kept)
    model.prompt.cut(keep)
    linears = [linear for block in model.blocks() for linear in block.linears()]
    empty = [linear for linear in linears if linear.weight.numel() == 0]
    replace(model.backbone, {linear: EmptyLinear(linear) for linear in empty})


def narrow_out(linear: nn.Linear, rows: Tensor) -> None:
    """Keep the given output units of ``linear``."""
    if len(rows) < linear.out_features:
        for name in ("weight", "bias", "lora_B"):
            if (x := getattr(linear, name, None)) is not None:
                _set(linear, name, x.detach()[rows.to(x.device)])
        linear.out_features = len(rows)


def narrow_in(linear: nn.Linear, columns: Tensor) -> None:
    """Keep the given input units of ``linear``; its bias stays."""
    if len(columns) < linear.in_features:
        for name in ("weight", "lora_A"):
            if (x := getattr(linear, name, None)) is not None:
                _set(linear, name, x.detach()[:, columns.to(x.device)].contiguous())
        linear.in_features = len(columns)


def _set(linear: nn.Linear, name: str, x: Tensor) -> None:
    """Set a weight; only the factors of a low-rank update are trained."""
    setattr(linear, name, nn.Parameter(x, requires_grad=name.startswith("lora")))


class EmptyLinear(nn.Linear):
    """A linear layer without inputs, which gives its bias, or without outputs.

    It multiplies nothing: some runtimes refuse matrices with a dimension of zero.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(1, 1, bias=False, device="meta")  # torch warns about empty ones
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        shape = (*input.shape[:-1], self.out_features)
        if self.out_features and self.bias is not None:
            return self.bias.expand(shape).clone()  # like any product, no view of a weight
        return input.new_zeros(shape)
