"""What reconstruction changes in a cut model: small tensors that a skill keeps by name."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skip_exp.models.families.base import AttentionBlock, Block
from skip_exp.models.lora import LowRankLinear
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import attention_rows, frozen

# By `<linear>.<part>`, the linear named as in `Block.linears`; fp32 on the CPU. `left` [out, rank]
# @ `right` [rank, in] is added to its weight, `bias` [out] to its bias; each of the neurons that
# enter it (units, or heads) is multiplied by its `scale` [kept].
Changes = dict[str, Tensor]
PARTS = ("left", "right", "bias", "scale")


def apply(smaller: SoftPromptModel, changes: Changes) -> None:
    """Add ``changes`` to a cut model, in place; an output projection without a bias gains one.

    Raises:
        ValueError: a change that does not fit.
    """
    by_name = linears(smaller)
    for key, change in changes.items():
        name, _, part = key.rpartition(".")
        if name not in by_name or part not in PARTS:
            raise ValueError(f"the backbone has no {key}")
        linear = by_name[name]
        if part == "bias":
            _add_bias(linear, change)
        elif part == "left":
            weight = linear.weight.detach()
            linear.weight = frozen(weight + (change @ changes[f"{name}.right"]).to(weight))
        elif part == "scale":
            _scale(linear, change)


def linears(model: SoftPromptModel) -> dict[str, nn.Linear]:
    """Every linear of the sublayers in use, by the name that changes have for it."""
    return {name: linear for block in model.blocks() for name, linear in block.linears().items()}


def gain_biases(model: SoftPromptModel, names: Iterable[str]) -> None:
    """Give output projections the (zero) biases that parameters called ``names`` will fill."""
    modules = {id(module): name for name, module in model.named_modules()}
    for block in model.blocks():
        output = block.output
        if output.bias is None and f"{modules[id(output)]}.bias" in names:
            _add_bias(output, torch.zeros(output.out_features))


def _add_bias(linear: nn.Linear, change: Tensor) -> None:
    change = change.to(linear.weight)
    if change.shape != (linear.out_features,):
        raise ValueError(f"a bias of shape {tuple(change.shape)}, not {linear.out_features}")
    linear.bias = frozen(change if linear.bias is None else linear.bias.detach() + change)


def _scale(linear: nn.Linear, change: Tensor) -> None:
    """Multiply the columns of as many neurons, of equal width each."""
    width = linear.in_features // len(change) if change.dim() == 1 and len(change) else 0
    if width * change.numel() != linear.in_features:
        raise ValueError(f"a scale of shape {tuple(change.shape)} for {linear.in_features} inputs")
    factors = change.to(linear.weight).repeat_interleave(width)
    linear.weight = frozen(linear.weight.detach() * factors)
    if isinstance(linear, LowRankLinear):  # its update reads the same neurons
        linear.lora_A = nn.Parameter(linear.lora_A.detach() * factors)


def lost_blocks(model: SoftPromptModel, keep: Keep) -> dict[str, Block]:
    """The sublayers of the dense ``model`` of which ``keep`` removes something, in order."""
    blocks: dict[str, Block] = {}
    for block in model.blocks():
        if len(kept_columns(block, keep)) < block.output.in_features:
            blocks[block.name] = block
    return blocks


def kept_columns(block: Block, keep: Keep) -> Tensor:
    """Input columns of the output projection that stay."""
    if isinstance(block, AttentionBlock):
        return attention_rows(block, keep)[1]
    return keep.get(block.name.site("ffn"), torch.arange(block.down.in_features))
