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
        keep: ``<block>.ffn`` -> sorted unit indices [k]; ``.heads`` -> sorted head indices [k];
            ``.qk`` / ``.vo`` -> dim indices [heads, k], the same number in every head; ``.qk`` ->
            indices of pairs where a rotation mixes them. A site that is absent keeps everything.
            The sublayer of an empty site adds only its bias.
    """
    smaller = model.copy()
    keep = in_dims(smaller, keep)
    with unmerge_within(smaller.backbone):
        for block in smaller.blocks():
            if isinstance(block, AttentionBlock):
                _cut_attention(block, keep)
            elif (units := keep.get(block.name.site("ffn"))) is not None:
                for up in block.up:
                    narrow_out(up, units)
                narrow_in(block.down, units)
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


def in_dims(model: SoftPromptModel, keep: Keep) -> Keep:
    """``keep`` with the dims of each query/key neuron that has several."""
    dims: Keep = {}
    for block in model.attention_blocks().values():
        a, site = block.attention, block.name.site("qk")
        if site in keep and a.qk_group > 1:
            step = a.qk_dim // a.qk_group
            dims[site] = torch.cat([keep[site] + i * step for i in range(a.qk_group)], dim=1)
    return {**keep, **dims}


def attention_rows(block: AttentionBlock, keep: Keep) -> tuple[Tensor, Tensor]:
    """Rows of the query/key and of the value projection that ``keep`` keeps, head by head."""
    a, site = block.attention, block.name.site
    heads = keep.get(site("heads"), torch.arange(a.heads))

    def rows(kind: str, dim: int) -> Tensor:
        every = torch.arange(dim).expand(a.heads, dim)
        dims = keep.get(site(kind), every)
        return (torch.arange(a.heads)[:, None] * dim + dims)[heads].flatten()

    return rows("qk", a.qk_dim), rows("vo", a.vo_dim)


def _cut_attention(block: AttentionBlock, keep: Keep) -> None:
    a, site = block.attention, block.name.site
    rows_qk, rows_vo = attention_rows(block, keep)
    query, key, value = a.projections()
    for linear, rows in ((query, rows_qk), (key, rows_qk), (value, rows_vo)):
        narrow_out(linear, rows)
    narrow_in(block.output, rows_vo)
    for kind in ("qk", "vo"):
        if site(kind) in keep:
            a.keep_dims(kind, keep[site(kind)])
    a.keep_heads(keep.get(site("heads"), torch.arange(a.heads)).tolist())


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
