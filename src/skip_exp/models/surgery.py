"""Sizes of a model (neurons, parameters, FLOPs), and the cut that makes it smaller.

Nothing is masked: the weights are removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .family import Block, Keep, Site, Sublayer, linear_of, replace
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
    output = block.output
    rest = 0 if output.bias is None else output.bias.numel()
    # One input of the output projection, and what computes it.
    cost = output.out_features
    for linear in block.inner:
        cost += linear.in_features
        if linear.bias is not None:
            cost += 1
    per_unit = 1 if block.attention is None else block.attention.head_dim
    return Shape(block.name, output.in_features // per_unit, rest, per_unit * cost)


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
    totals = site_sizes(sizes)
    return {site: [len(indices), totals[Site(site)]] for site, indices in keep.items()}


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


def cut(model: SoftPromptModel, keep: Keep, layers: int | None = None) -> SoftPromptModel:
    """Build a smaller copy of ``model`` with only the neurons in ``keep``.

    Example:
        >>> smaller = cut(model, {"encoder.0.ffn": torch.arange(8)})
        >>> shapes_of(smaller)[1].units
        8

    Args:
        model: stays as it is. Untouched weights are shared; prompt and readout are copied. The
            prompt, gates and the factors of low-rank updates are cut alike.
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
        units = keep.get(block.name.site)
        if units is None:
            continue
        attention = block.attention
        if attention is not None:
            attention.head_ids = attention.head_ids[units.to(attention.head_ids.device)]
            dims = torch.arange(attention.head_dim, device=units.device)
            units = (units[:, None] * len(dims) + dims).flatten()  # rows of whole heads
        for linear in block.inner:
            narrow_out(linear, units)
        narrow_in(block.output, units)
    model.prompt.cut(keep)
    # Layers whose site is empty have matrices of no size left.
    empty: dict[nn.Module, nn.Module] = {}
    for block in model.blocks():
        for linear in block.linears():
            if linear.weight.numel() == 0:
                layer = linear_of(linear.weight, linear.bias, EmptyLinear)
                empty[linear] = layer.train(linear.training)
    replace(model.backbone, empty)


def narrow_out(linear: nn.Linear, rows: Tensor) -> None:
    """Keep the given output units of ``linear``."""
    _select(linear, ("weight", "bias", "base", "lora_B"), 0, rows)
    linear.out_features = len(rows)


def narrow_in(linear: nn.Linear, columns: Tensor) -> None:
    """Keep the given input units of ``linear``; its bias stays."""
    _select(linear, ("weight", "base", "lora_A", "gate"), -1, columns)
    linear.in_features = len(columns)


def _select(linear: nn.Linear, names: Sequence[str], dim: int, units: Tensor) -> None:
    """Select along ``dim`` of these weights, and of the buffer ``base``, unless all stay."""
    for name in names:
        x = getattr(linear, name, None)
        if x is not None and len(units) < x.shape[dim]:
            x = x.detach().index_select(dim, units.to(x.device))
            is_update = name in ("lora_A", "lora_B", "gate")  # only these are trained
            setattr(linear, name, x if name == "base" else nn.Parameter(x, requires_grad=is_update))


class EmptyLinear(nn.Linear):
    """A linear layer without inputs, which gives its bias, or without outputs.

    It multiplies nothing: some runtimes refuse matrices with a dimension of zero.
    """

    def forward(self, input: Tensor) -> Tensor:
        shape = (*input.shape[:-1], self.out_features)
        if self.out_features and self.bias is not None:
            return self.bias.expand(shape).clone()  # like any product, no view of a weight
        return input.new_zeros(shape)
