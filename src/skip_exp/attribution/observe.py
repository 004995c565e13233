"""Reading and replacing the activations of every site during a forward pass."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skip_exp.attribution.target import true_label
from skip_exp.data.batches import Batch
from skip_exp.models.family import AttentionBlock
from skip_exp.models.sites import Sublayer
from skip_exp.models.soft_prompt import SoftPromptModel

NOWHERE = Sublayer()  # for a tap that belongs to no site


@dataclass(frozen=True)
class Tap:
    """One activation: what enters or leaves a linear layer.

    Attributes:
        before: whether it is the layer's input; otherwise its output.
        signal: its role in the sublayer: q, k, v, context, units or up.
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
    found: dict[str, Tap] = {}
    for block in model.blocks():
        n = block.name
        if isinstance(block, AttentionBlock):
            heads = block.attention.heads
            if at == "linears":
                for signal, linear in zip("qkv", block.attention.projections(), strict=True):
                    found[f"{n}.{signal}"] = Tap(linear, False, signal, n, heads)
            else:
                found[f"{n}.context"] = Tap(block.output, True, "context", n, heads)
        elif at == "linears":
            for i, up in enumerate(block.up):
                found[f"{n}.up{i}"] = Tap(up, False, "up", n)
        else:
            found[n] = Tap(block.down, True, "units", n)
    return found


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


def replace_activation(tap: Tap, value: Tensor) -> RemovableHandle:
    """Within the block, replace the activation by ``value`` (shaped as in :func:`observe`)."""
    return tap.hook(lambda x: value.view(x.shape))


def token_mask(model: SoftPromptModel, tap: Tap, attention_mask: Tensor) -> Tensor | None:
    """Boolean mask of a tap's real positions: [B, T], or [R, T] in a decoder; None: all."""
    if tap.reads_encoder:
        return model.encoder_mask(attention_mask).bool()
    return model.readout.decoded(attention_mask)


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
    return {
        name: h.detach().float() * g.float()
        for (name, h), g in zip(activations.items(), gradients, strict=True)
    }
