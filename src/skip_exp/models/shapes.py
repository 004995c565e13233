"""Sizes of a model: neurons of its sublayers, the parameters that go with each, and FLOPs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .family import AttentionBlock, Block
from .sites import Site, Sublayer
from .soft_prompt import SoftPromptModel


@dataclass(frozen=True)
class Shape:
    """Sizes of one sublayer.

    Attributes:
        units: units of an FFN, or heads of an attention.
        rest: parameters that belong to no neuron, i.e. the output bias.
        cost: parameters that are removed with one neuron.
    """

    name: Sublayer
    units: int
    rest: int
    cost: int

    @property
    def parameters(self) -> int:
        """Parameters of the whole sublayer."""
        return self.rest + self.units * self.cost


def shape_of(block: Block) -> Shape:
    """Current sizes of a sublayer, after any cut."""
    output, *inner = block.linears()
    rest = 0 if output.bias is None else output.bias.numel()
    of_inner = (linear.in_features + (linear.bias is not None) for linear in inner)
    cost = sum(of_inner) + output.out_features
    if isinstance(block, AttentionBlock):
        return Shape(block.name, block.attention.heads, rest, block.attention.head_dim * cost)
    return Shape(block.name, output.in_features, rest, cost)


def shapes_of(model: SoftPromptModel) -> list[Shape]:
    """Sizes of a model's sublayers, in order of execution."""
    return [shape_of(block) for block in model.blocks()]


def block_parameters(model: SoftPromptModel) -> int:
    """The parameters that pruning counts: of attention and feed-forward weights."""
    return sum(shape.parameters for shape in shapes_of(model))


def site_sizes(sizes: Sequence[Shape]) -> dict[Site, int]:
    """The number of neurons of every site of a model."""
    return {shape.name.site: shape.units for shape in sizes}


def keep_sizes(sizes: Sequence[Shape], keep: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """``{site: [kept, total]}`` for a keep of the model with these ``sizes``."""
    of = site_sizes(sizes)
    return {site: [len(kept), of[Site(site)]] for site, kept in keep.items()}


def random_batch(model: SoftPromptModel, batch: int, seq_len: int) -> dict[str, Tensor]:
    """Draw a full batch [batch, seq_len] of random token ids on the model's device."""
    device = next(model.parameters()).device
    vocabulary = model.backbone.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (batch, seq_len), generator=generator).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def flops(model: SoftPromptModel, seq_len: int) -> int:
    """Count the floating-point operations of one text of ``seq_len`` tokens."""
    eager = model.on("cpu").copy().eval()  # parts of a job's models may be on another device
    eager.set_attention("eager")  # the CPU's fused attention kernel is not counted
    # In inference mode the counter cannot follow parameters into a module, e.g. a prompt's layers.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        eager(**random_batch(eager, 1, seq_len))
    return counter.get_total_flops()
