"""``mask_tuning``: what is kept is scaled, one number a head or FFN unit (Kwon et al. 2022).

Sublayer by sublayer in order, the scales s of the kept neurons are those that bring the cut model
nearest to the dense one's hidden state behind the sublayer, residual connection included (their
equation 11), given what the sublayers before it were scaled to:

    ``min |A s - b|^2``, A: what each kept neuron adds, b: dense hidden state - residual - bias,

over all real tokens, solved about s = 1 as theirs: on the normal equations, damped by 1. Where a
scale would leave [-10, 10], that sublayer and those after it keep 1. Where theirs differs: it
solves by iterations (LSMR), leaves out the first layer's attention, looks behind the last layer at
the first token alone, which their classifier reads, and fits a constant beside the scales of
attention that it drops again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from skip_exp.data.batches import Batch
from skip_exp.models.families.base import AttentionBlock, Block
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct.changes import Changes, apply, lost_blocks
from skip_exp.pruning.reconstruct.streams import Streams, behind, dense_streams, real
from skip_exp.pruning.surgery import cut

DAMPING = 1.0
LARGEST = 10.0  # scale that is taken for one


@torch.no_grad()
def changes(model: SoftPromptModel, keep: Keep, batches: Sequence[Batch]) -> Changes:
    """Scales of the kept neurons of every sublayer that lost some: see ``compute.changes``."""
    wanted = dense_streams(model, lost_blocks(model, keep), batches)
    smaller = cut(model, keep)
    found: Changes = {}
    for block in smaller.blocks():
        if block.name not in wanted[0] or not block.output.in_features:
            continue
        products, goal = _normal_equations(smaller, block, batches, wanted)
        scales = solve(products, goal)
        if scales.abs().max() > LARGEST:
            break
        own = {f"{block.name}.scale": scales.float()}
        apply(smaller, own)
        found |= own
    return found


def solve(products: Tensor, goal: Tensor) -> Tensor:
    """Scales s [k] from A^T A [k, k] and A^T b [k].

    ``min |A^T A (s - 1) - A^T (b - A 1)|^2 + |s - 1|^2``.
    """
    rest = goal - products.sum(1)
    damped = torch.cat([products, DAMPING * torch.eye(len(goal), dtype=products.dtype)])
    return 1 + torch.linalg.lstsq(damped, torch.cat([rest, torch.zeros_like(rest)])).solution


def _normal_equations(
    smaller: SoftPromptModel,
    block: Block,
    batches: Sequence[Batch],
    wanted: Sequence[Streams],
) -> tuple[Tensor, Tensor]:
    """A^T A [k, k] and A^T b [k] over all real tokens, in fp64 on the CPU."""
    weight = block.output.weight.double()  # [H, n]
    overlap = weight.T @ weight
    products, goal = torch.zeros_like(overlap), torch.zeros_like(overlap[0])
    for batch, targets in zip(batches, wanted, strict=True):
        inputs, hidden = behind(smaller, block, batch)
        is_real = real(smaller, block, batch, hidden).bool()
        x = inputs[is_real].double()
        # What the sublayer should have added, beyond its bias.
        missing = (targets[block.name] - hidden)[is_real].double() + x @ weight.T
        products += overlap * (x.T @ x)
        goal += (x * (missing @ weight)).sum(0)
    width = block.attention.vo_dim if isinstance(block, AttentionBlock) else 1
    products = products.unflatten(0, (-1, width)).unflatten(2, (-1, width)).sum((1, 3))
    return products.cpu(), goal.unflatten(0, (-1, width)).sum(1).cpu()
