"""Cut neurons out of a model. Nothing is masked: the weights are removed."""

import torch
from torch import Tensor, nn

from .family import AttentionBlock, replace
from .sites import Keep
from .soft_prompt import SoftPromptModel


def cut(model: SoftPromptModel, keep: Keep, layers: int | None = None) -> SoftPromptModel:
    """Build a smaller copy of ``model`` with only the neurons in ``keep``.

    Example:
        >>> smaller = cut(model, {"encoder.0.ffn": torch.arange(8)})
        >>> shapes_of(smaller)[1].units
        8

    Args:
        model: stays as it is. Untouched weights are shared; prompt and readout are copied. The
            prompt and the factors of low-rank updates are cut alike.
        keep: site -> sorted indices of its units or heads. A site that is absent keeps everything.
            The sublayer of an empty site adds only its bias.
        layers: how many of the first layers to keep in every stack; None: all. Later ones go whole,
            norms included, whatever ``keep`` says.
    """
    smaller = model.copy()
    narrow(smaller, keep, layers)
    return smaller


def narrow(model: SoftPromptModel, keep: Keep, layers: int | None = None) -> None:
    """:func:`cut` in place."""
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
        for name in ("weight", "bias", "base", "lora_B"):
            if (x := getattr(linear, name, None)) is not None:
                _set(linear, name, x.detach()[rows.to(x.device)])
        linear.out_features = len(rows)


def narrow_in(linear: nn.Linear, columns: Tensor) -> None:
    """Keep the given input units of ``linear``; its bias stays."""
    if len(columns) < linear.in_features:
        for name in ("weight", "base", "lora_A"):
            if (x := getattr(linear, name, None)) is not None:
                _set(linear, name, x.detach()[:, columns.to(x.device)].contiguous())
        linear.in_features = len(columns)


def _set(linear: nn.Linear, name: str, x: Tensor) -> None:
    """Set a weight, or the buffer ``base``; only the factors of a low-rank update are trained."""
    is_factor = name.startswith("lora")
    setattr(linear, name, x if name == "base" else nn.Parameter(x, requires_grad=is_factor))


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
