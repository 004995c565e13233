"""``mean`` and ``least_squares``: no gradient, a closed form for each output projection.

What a removed neuron gave on average, or as far as the kept ones tell, goes into the sublayer's
output projection. ``mean``: into its bias (Wang et al. 2022 fold what they remove alike).
``least_squares``: the ridge solution of min ``E|W x - W' x_kept - b'|^2``, as in ZipLM (Kurtic et
al. 2023) and Kwon et al. 2022, whose change of the weight is kept at low rank, so that a skill
stays kilobytes. Each token counts by its relative error, see :func:`token_weights`. Both are exact
where the removed neurons are constant; ``least_squares`` also where they depend linearly on kept
ones (and the rank suffices).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skip_exp.attribution.observe import Tap, logits, observe, taps, token_mask
from skip_exp.data.batches import Batch
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct.changes import Changes, kept_columns, lost_blocks


@dataclass
class Moments:
    """Moments of the input of one sublayer's output projection, over weighted tokens."""

    mean: Tensor  # [n]
    covariance: Tensor  # [n, n]; [0, 0] where only the mean was asked for


def changes(
    model: SoftPromptModel,
    keep: Keep,
    batches: Iterable[Batch],
    *,
    second: bool,
    rank: int,
    ridge: float = 1e-3,
) -> Changes:
    """What to add to the output projections of ``cut(model, keep)``.

    Args:
        model: the dense model, on the device of the batches; left as it was.
        batches: ``input_ids``, ``attention_mask`` (and token types); padding does not count.
        second: ``least_squares``, from second moments; else ``mean``.
        rank: of the change of each weight (least_squares).
        ridge: penalty, in mean variances of the kept neurons: a few hundred texts tell less of
            the dependence than they seem to.
    """
    lost = lost_blocks(model, keep)
    added: Changes = {}
    for name, moments in _moments(model, set(lost), batches, second).items():
        kept = kept_columns(lost[name], keep)
        weight = lost[name].output.weight.detach().double().cpu()
        change = solve(weight, kept, moments, rank=rank if second else 0, ridge=ridge)
        added |= {f"{name}.{part}": tensor.float() for part, tensor in change.items()}
    return added


def solve(
    weight: Tensor, kept: Tensor, moments: Moments, *, rank: int, ridge: float
) -> dict[str, Tensor]:
    """Changes of a projection ``weight`` [H, n] of whose inputs ``kept`` [k] stay.

    Returns ``bias`` [H] and, with a rank above 0, ``left`` [H, rank] and ``right`` [rank, k].
    """
    gone = torch.ones(weight.shape[1], dtype=torch.bool)
    gone[kept] = False
    lost, mean = weight[:, gone], moments.mean
    bias = lost @ mean[gone]
    if not rank or not len(kept):
        return {"bias": bias}
    kept_covariance = moments.covariance[kept][:, kept]
    variance = kept_covariance.diagonal()
    penalty = ridge * variance.mean() + _rounding(variance + mean[kept] ** 2, weight.shape[1])
    root = torch.linalg.cholesky(
        kept_covariance + penalty * torch.eye(len(kept), dtype=kept_covariance.dtype)
    )
    change = lost @ torch.cholesky_solve(moments.covariance[kept][:, gone], root).T
    # The best low rank as the activations see it: the norm is |change root|.
    u, s, v = torch.linalg.svd(change @ root, full_matrices=False)
    left = u[:, :rank] * s[:rank]
    right = torch.linalg.solve_triangular(root, v[:rank], upper=False, left=False)
    return {"bias": bias - left @ (right @ mean[kept]), "left": left, "right": right}


def _rounding(squares: Tensor, terms: int) -> Tensor:
    """What fp32 sums of so many terms leave of variance where there is none; never 0.

    Less tells of nothing: a decoder's first step is the same for every text, say.

    Args:
        squares: mean squares of the inputs.
    """
    noise = terms * torch.finfo(torch.float32).eps ** 2 * squares.mean()
    return noise.clamp_min(torch.finfo(torch.float32).tiny)


def token_weights(output: nn.Linear, rows: Tensor) -> Tensor:
    """``1 / (|Wx|^2 + its median)``: what an error of a token's output is worth, [tokens].

    A LayerNorm follows, which divides by a token's size: a few tokens with outputs tens of times as
    large (separators, in early layers) would else decide alone, to the cost of all others.

    Args:
        rows: inputs of ``output`` [tokens, n].
    """
    sizes = nn.functional.linear(rows, output.weight.float()).square().sum(1)
    return 1 / (sizes + sizes.median()).clamp_min(torch.finfo(sizes.dtype).tiny)


class Sums:
    """Weighted sums over the rows of batch after batch, in fp64 on the rows' device.

    About the mean of the first batch: in sums about zero an input that hardly varies would lose its
    variance to rounding, or have a negative one.
    """

    def __init__(self, rows: Tensor, weights: Tensor, second: bool) -> None:
        self.centre = weights.double() @ rows.double() / weights.double().sum()
        self.total = torch.zeros_like(self.centre[:1])
        self.first = torch.zeros_like(self.centre)
        self.second = torch.zeros_like(torch.outer(self.first, self.first)) if second else None

    def add(self, rows: Tensor, weights: Tensor) -> None:
        """``rows`` [tokens, n], ``weights`` [tokens]."""
        centred, weights = rows.double() - self.centre, weights.double()
        weighted = centred * weights[:, None]
        self.total += weights.sum()
        self.first += weighted.sum(0)
        if self.second is not None:
            self.second += weighted.T @ centred

    def moments(self) -> Moments:
        shift = self.first / self.total
        mean = (self.centre + shift).cpu()
        if self.second is None:
            return Moments(mean, torch.zeros(0, 0))
        return Moments(mean, (self.second / self.total - torch.outer(shift, shift)).cpu())


@torch.no_grad()
def _moments(
    model: SoftPromptModel, names: set[str], batches: Iterable[Batch], second: bool
) -> dict[str, Moments]:
    """Of the blocks called ``names``; without ``second`` no covariance is computed."""
    outputs: dict[str, Tap] = {  # what enters the output projections
        tap.sublayer: tap for tap in taps(model).values() if tap.before and tap.sublayer in names
    }
    sums: dict[str, Sums] = {}
    for batch in batches:
        with observe(model, outputs) as activations:
            logits(model, batch)
        for name, x in activations.items():
            mask = token_mask(model, outputs[name], batch["attention_mask"])
            rows = x.float().flatten(2)
            rows = rows.flatten(0, 1) if mask is None else rows[mask]
            weights = token_weights(outputs[name].linear, rows)
            if name not in sums:
                sums[name] = Sums(rows, weights, second)
            sums[name].add(rows, weights)
    return {name: of_block.moments() for name, of_block in sums.items()}
