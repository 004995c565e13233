"""Reads and replaces the activations of every site, and sums up what neurons score on them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skip_exp.attribution.target import true_label
from skip_exp.data.batches import Batch
from skip_exp.models.family import Block, Relevance, Sublayer
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of, site_sizes

NOWHERE = Sublayer()  # for a tap that belongs to no site


@dataclass(frozen=True)
class Tap:
    """One activation: what enters or leaves a linear layer.

    Attributes:
        before: whether it is the layer's input; otherwise its output.
        signal: its role in the sublayer: q, k, v, context, units, up0 or up1.
        heads: number of heads that share it; None in an FFN.
    """

    linear: nn.Linear
    before: bool
    signal: str = ""
    sublayer: Sublayer = NOWHERE
    heads: int | None = None

    @property
    def reads_encoder(self) -> bool:
        """Whether its positions are the encoder's, as for a decoder's cross keys and values."""
        at = self.sublayer
        return at.stack == "encoder" or (at.part == "cross" and self.signal in ("k", "v"))

    def view(self, x: Tensor) -> Tensor:
        """Reshape [R, T, n] to [R, T, heads, dims] in an attention."""
        return x if self.heads is None else x.view(*x.shape[:2], self.heads, -1)

    def by_neuron(self, x: Tensor) -> Tensor:
        """``x``, whose last dimensions are those of :meth:`view`, by neuron: [..., n].

        A head gets the sum over its dims.
        """
        return x if self.heads is None else x.sum(-1)

    def hook(self, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
        """Pass every activation through ``change`` until the handle is removed."""
        if self.before:
            return self.linear.register_forward_pre_hook(lambda _m, x: (change(x[0]),))
        return self.linear.register_forward_hook(lambda _m, _x, out: change(out))


def taps(model: SoftPromptModel, at: str = "neurons") -> dict[str, Tap]:
    """Find the activations that relevance is computed from, by name.

    ``neurons``: ``<ffn block>``, the input of the down projection (the product, if gated);
    ``<attention block>.context``, which enters the output projection.
    ``linears``: ``<ffn block>.up<i>``, the outputs of the up projections before the activation
    function; ``<attention block>.q``, ``.k`` and ``.v``, the outputs of these projections.
    """
    taps_by_name: dict[str, Tap] = {}
    for block in model.blocks():
        name = block.name
        heads = None if block.attention is None else block.attention.heads
        if at == "linears":
            signals = ["up0", "up1"] if heads is None else ["q", "k", "v"]
            for signal, linear in zip(signals, block.inner, strict=False):
                taps_by_name[f"{name}.{signal}"] = Tap(linear, False, signal, name, heads)
        elif heads is None:
            taps_by_name[name] = Tap(block.output, True, "units", name)
        else:
            taps_by_name[f"{name}.context"] = Tap(block.output, True, "context", name, heads)
    return taps_by_name


@contextmanager
def observe(
    model: SoftPromptModel, taps_by_name: dict[str, Tap] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Within the block, a forward pass fills the dictionary that this yields.

    Example:
        >>> with observe(model) as activations:
        ...     logits(model, batch)
        >>> activations["encoder.0.ffn"].shape  # [R, T, units]

    Keys are those of ``taps_by_name``, by default of ``taps(model)``. Shapes are [R, T, n] or
    [R, T, heads, dims]; R is the batch, or batch x labels in a decoder of several steps. All
    activations are on the autograd graph, also of frozen layers. Empty sublayers have none.
    """
    taps_by_name = taps(model) if taps_by_name is None else taps_by_name
    activations: dict[str, Tensor] = {}

    def store(name: str, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return x
        if not x.requires_grad:  # nothing below the first trained parameter is on the graph
            x = x.detach().requires_grad_()
        activations[name] = taps_by_name[name].view(x)
        return activations[name].view(x.shape)

    with ExitStack() as hooks:
        for name, tap in taps_by_name.items():
            hooks.enter_context(tap.hook(partial(store, name)))
        yield activations


def token_mask(model: SoftPromptModel, tap: Tap, attention_mask: Tensor) -> Tensor | None:
    """Boolean mask of a tap's real positions: [B, T], or [R, T] in a decoder; None: all."""
    if tap.reads_encoder:
        return model.encoder_mask(attention_mask).bool()
    return model.readout.mask_decoder(attention_mask)


def logits(model: SoftPromptModel, batch: Batch) -> Tensor:
    """Compute class logits [B, labels] of a batch that includes its labels."""
    return model(**{name: x for name, x in batch.items() if name != "labels"})


def products(
    model: SoftPromptModel,
    batch: Batch,
    taps_by_name: dict[str, Tap],
    target: str,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """Compute activation x gradient of the true label's target at every tap in use."""
    with torch.enable_grad(), observe(model, taps_by_name) as activations:
        goal = true_label(logits(model, batch), batch["labels"], target, temperature)
        gradients = torch.autograd.grad(goal.sum(), list(activations.values()))
    products_by_name = {}
    for name, gradient in zip(activations, gradients, strict=True):
        products_by_name[name] = activations[name].detach().float() * gradient.float()
    return products_by_name


class Totals:
    """Sums over the texts for every site of a model; zero at empty sites."""

    def __init__(self, model: SoftPromptModel) -> None:
        # Double precision: the order and size of the batches must not matter.
        sizes = site_sizes(shapes_of(model))
        self.sums: Relevance = {site: torch.zeros(n).double() for site, n in sizes.items()}

    def add(self, site: str, rows: Tensor) -> None:
        """Add ``rows`` [R, n] to the sums of a site."""
        total = rows.double().sum(0)
        self.sums[site] = self.sums[site].to(total.device) + total  # moves with the first batch

    def add_positions(
        self, tap: Tap, values: Tensor, texts: int, mask: Tensor | None, tokens: str, sign: str
    ) -> None:
        """Add the values of a tap to its site.

        Args:
            values: per position, [R, T, n] or [R, T, heads, dims].
            texts: how many they are of.
            mask: real positions, from :func:`token_mask`.
            tokens: aggregation over the real positions: ``max``, ``mean`` or ``sum``.
            sign: ``signed``, ``absolute`` (per position), or ``text`` (of the aggregate).
        """
        x = tap.by_neuron(values)
        if sign == "absolute":
            x = x.abs()
        text_scores = sum_rows(over_tokens(x, mask, tokens), texts)
        if sign == "text":
            text_scores = text_scores.abs()
        self.add(tap.sublayer.site, text_scores)

    def means(self, texts: int) -> Relevance:
        """Divide by the number of texts; fp32 on the CPU."""
        return {site: (total / texts).float().cpu() for site, total in self.sums.items()}


def sum_rows(values: Tensor, texts: int) -> Tensor:
    """Sum [R, ...] over the rows that a decoder may have per text, one a label: [texts, ...]."""
    return values.unflatten(0, (texts, -1)).sum(1)


def over_tokens(scores: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Aggregate [R, T, n] over the real positions of T, giving [R, n].

    ``mask`` is [R, T], or [B, T] if several rows share a text. Padding never counts: a padded zero
    would raise a maximum of negative scores.
    """
    if mask is None:
        mask = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    elif len(mask) != len(scores):  # several decoder rows per text
        mask = mask.repeat_interleave(len(scores) // len(mask), 0)
    real = mask[..., None]
    if how == "max":
        return scores.masked_fill(~real, float("-inf")).amax(1)
    total = (scores * real).sum(1)
    return {"sum": total, "mean": total / real.sum(1)}[how]


def per_neuron(weight: Tensor, bias: Tensor | None, is_output: bool) -> Tensor:
    """Sum values in the shapes of a linear's weight and bias over each neuron's share, giving [n].

    A neuron owns a column of an output (or down) projection, whose bias belongs to no neuron, and a
    row and its bias of any other linear.
    """
    if is_output:
        return weight.sum(0)
    return weight.sum(1) if bias is None else weight.sum(1) + bias


def of_block(block: Block, sums: Callable[[nn.Linear, bool], Tensor]) -> Tensor:
    """Add up the sums of the linears of a block by neuron; a head owns all of its dims.

    Args:
        sums: (linear, whether it is the output projection) -> [n], see :func:`per_neuron`.

    Returns:
        [units] or [heads].
    """
    output = sums(block.output, True)
    inner = [sums(linear, False) for linear in block.inner]
    if block.attention is None:
        return reduce(add, inner) + output
    query, key, value = inner
    per_head = block.attention.heads, block.attention.head_dim
    return (query + key).view(per_head).sum(1) + (value + output).view(per_head).sum(1)
