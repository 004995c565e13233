"""Cut neurons out of a model. Nothing is masked: the weights are removed."""

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock
from skip_exp.models.lora import LowRankLinear, replace, unmerge_within
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel


def cut(model: SoftPromptModel, keep: Keep) -> SoftPromptModel:
    """Build a smaller copy of ``model`` with only the neurons in ``keep``.

    Example:
        >>> smaller = cut(model, {"encoder.0.ffn": torch.arange(8)})
        >>> smaller.shapes()[1].units
        8

    Args:
        model: stays as it is. Untouched weights are shared; prompt and readout are copied. The
            prompt and the factors of low-rank updates are cut alike.
        keep: site -> sorted indices of its units or heads. A site that is absent keeps everything.
            The sublayer of an empty site adds only its bias.
    """
    smaller = model.copy()
    with unmerge_within(smaller.backbone):
        for block in smaller.blocks():
            kept = keep.get(block.name.site)
            if kept is None:
                continue
            if isinstance(block, AttentionBlock):
                block.attention.keep_heads(kept.tolist())
                kept = head_rows(block, kept)
            output, *inner = block.linears()
            for linear in inner:
                narrow_out(linear, kept)
            narrow_in(output, kept)
    smaller.prompt.cut(keep)
    linears = [linear for block in smaller.blocks() for linear in block.linears()]
    empty = [linear for linear in linears if linear.weight.numel() == 0]
    replace(smaller.backbone, {linear: EmptyLinear(linear) for linear in empty})
    return smaller


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


def head_rows(block: AttentionBlock, heads: Tensor) -> Tensor:
    """Rows of the projections of the kept ``heads``, head by head."""
    dim = block.attention.head_dim
    return (heads[:, None] * dim + torch.arange(dim)).flatten()


def narrow_out(linear: nn.Linear, rows: Tensor) -> None:
    """Keep the given output units of ``linear``."""
    if len(rows) == linear.out_features:
        return
    rows = rows.to(linear.weight.device)
    linear.weight = frozen(linear.weight.detach()[rows])
    if isinstance(linear, LowRankLinear):
        linear.lora_B = nn.Parameter(linear.lora_B.detach()[rows])
    if linear.bias is not None:
        linear.bias = frozen(linear.bias.detach()[rows])
    linear.out_features = len(rows)


def narrow_in(linear: nn.Linear, columns: Tensor) -> None:
    """Keep the given input units of ``linear``; its bias stays."""
    if len(columns) == linear.in_features:
        return
    columns = columns.to(linear.weight.device)
    linear.weight = frozen(linear.weight.detach()[:, columns].contiguous())
    if isinstance(linear, LowRankLinear):
        linear.lora_A = nn.Parameter(linear.lora_A.detach()[:, columns].contiguous())
    linear.in_features = len(columns)


def frozen(weight: Tensor) -> nn.Parameter:
    """Wrap a weight that is not trained."""
    return nn.Parameter(weight, requires_grad=False)
