"""``sublayer``: what is left of every sublayer learns to give the dense model's hidden state.

Local reconstruction (Wagner et al. 2025, arXiv 2510.14444): no labels, a few hundred texts, each
sublayer held to what stands behind it in the dense model. What it is given is what the cut model
has there, so that a sublayer also makes up for what those before it fell short of; that is what
``least_squares``, which is given what the dense model has, leaves out.

1. In order, each output projection and its bias by least squares (closed form, low rank).
2. From there all linears that are left of all sublayers, by low-rank changes and biases, for STEPS
   steps of Adam. No gradient passes from one sublayer to another: each has a loss of its own.

An error is relative to the size of its token, by which the norm that follows divides.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skip_exp.attribution.observe import logits
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct.changes import Changes, apply, linears, lost_blocks
from skip_exp.pruning.reconstruct.closed_form import Sums, solve
from skip_exp.pruning.reconstruct.streams import Streams, behind, caught, dense_streams, real
from skip_exp.pruning.surgery import cut

STEPS = 100
LR = 3e-3


def changes(
    model: SoftPromptModel,
    keep: Keep,
    batches: Sequence[Batch],
    *,
    rank: int,
    steps: int = STEPS,
    ridge: float = 1e-3,
) -> Changes:
    """Changes of every linear that is left of a sublayer that lost some: see ``compute.changes``.

    Args:
        steps: of Adam, each on one batch; 0: the closed form alone.
        ridge: of the closed form, in mean variances of the kept neurons.
    """
    wanted = dense_streams(model, lost_blocks(model, keep), batches)
    start = in_order(cut(model, keep), batches, wanted, rank=rank, ridge=ridge)
    if not steps:
        return start
    smaller = cut(model, keep).requires_grad_(False)
    updates = _updates(smaller, start, rank)
    _train(smaller, updates, batches, wanted, steps)
    return {
        f"{name}.{part}": parameter.detach().cpu()
        for name, update in updates.items()
        for part, parameter in update.named_parameters()
    }


@torch.no_grad()
def in_order(
    smaller: SoftPromptModel,
    batches: Sequence[Batch],
    wanted: Sequence[Streams],
    *,
    rank: int,
    ridge: float,
) -> Changes:
    """The first part alone; ``smaller`` is changed alike, as later sublayers are to see it."""
    found: Changes = {}
    for block in smaller.blocks():
        if block.name not in wanted[0]:
            continue
        sums = None
        for batch, targets in zip(batches, wanted, strict=True):
            inputs, hidden = behind(smaller, block, batch)
            is_real = real(smaller, block, batch, hidden).bool()
            target = targets[block.name][is_real]
            rows = torch.cat([inputs[is_real], target - hidden[is_real]], 1)
            weights = 1 / _sizes(target)
            sums = sums or Sums(rows, weights, second=True)
            sums.add(rows, weights)
        assert sums is not None
        # As if what is missing were inputs, too, with a weight of one each, that were cut.
        width, size = block.output.in_features, block.output.out_features
        weight = torch.eye(size, width + size, dtype=torch.float64).roll(width, 1)
        kept = torch.arange(width)
        change = solve(weight, kept, sums.moments(), rank=rank, ridge=ridge)
        own = {f"{block.name}.{part}": tensor.float() for part, tensor in change.items()}
        apply(smaller, own)
        found |= own
    return found


class _Update(nn.Module):
    """A low-rank change of a linear and of its bias, as a forward hook of it."""

    def __init__(self, linear: nn.Linear, rank: int, start: Changes, draw: torch.Generator) -> None:
        super().__init__()
        to, width = linear.weight, linear.in_features
        rank = min(rank, width)
        if rank:
            right = torch.randn(rank, width, generator=draw) / width**0.5
            self.left = nn.Parameter(start.get("left", torch.zeros(len(to), rank)).to(to))
            self.right = nn.Parameter(start.get("right", right).to(to))
        if "bias" in start or linear.bias is not None:
            self.bias = nn.Parameter(start.get("bias", torch.zeros(len(to))).to(to))

    def forward(self, _linear: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if hasattr(self, "left"):
            out = out + F.linear(F.linear(inputs[0], self.right), self.left)
        return out + self.bias if hasattr(self, "bias") else out


def _updates(smaller: SoftPromptModel, start: Changes, rank: int) -> dict[str, _Update]:
    """Of all that is left of the sublayers which ``start`` changes, by the linears' names."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for block in smaller.blocks():
        if f"{block.name}.bias" not in start:
            continue
        for name, linear in block.linears().items():
            of_linear = {key.removeprefix(f"{name}."): t for key, t in start.items()}
            if linear.out_features and (linear.in_features or name == block.name):
                found[name] = _Update(linear, rank, of_linear, draw)
    return found


def _train(
    smaller: SoftPromptModel,
    updates: dict[str, _Update],
    batches: Sequence[Batch],
    wanted: Sequence[Streams],
    steps: int,
) -> None:
    """Adam at a rate that falls to zero, batch after batch; ``updates`` in place."""
    parameters = [p for update in updates.values() for p in update.parameters()]
    optimizer = torch.optim.Adam(parameters, LR)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    turns = itertools.islice(itertools.cycle(zip(batches, wanted, strict=True)), steps)
    with torch.enable_grad(), _at_work(smaller, updates):
        for batch, targets in turns:
            optimizer.zero_grad()
            torch.stack(list(errors(smaller, batch, targets).values())).sum().backward()
            optimizer.step()
            schedule.step()


@contextmanager
def _at_work(smaller: SoftPromptModel, updates: dict[str, _Update]) -> Iterator[None]:
    by_name = linears(smaller)
    handles: list[Any] = []
    try:
        for name, update in updates.items():
            handles.append(by_name[name].register_forward_hook(update))
        yield
    finally:
        for handle in handles:
            handle.remove()


def errors(smaller: SoftPromptModel, batch: Batch, targets: Streams) -> Streams:
    """By sublayer, the mean over real tokens of the squared error, relative to their sizes: []."""
    blocks = [block for block in smaller.blocks() if block.name in targets]
    with caught(blocks, detach=True) as found:
        logits(smaller, batch)
    losses: Streams = {}
    for block in blocks:
        hidden, target = found[block.name], targets[block.name]
        is_real = real(smaller, block, batch, hidden)
        off = (hidden - target).square().sum(-1) / _sizes(target)
        losses[block.name] = (off * is_real).sum() / is_real.sum()
    return losses


def _sizes(hidden: Tensor) -> Tensor:
    """Squared lengths [...] of hidden states [..., H]; never 0."""
    return hidden.square().sum(-1).clamp_min(torch.finfo(hidden.dtype).tiny)
