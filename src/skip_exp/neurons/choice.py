"""Sets of neurons: how far two of them agree, what is left of one, and one drawn at random.

Pure functions of keeps. A keep names the neurons of a model that stay; here it may be any set of
neurons, with the sites that it says nothing about left out.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from skip_exp.models.sites import Keep, Site

Sizes = Mapping[Site, tuple[int, ...]]  # the shape of each site's scores


def overlap(a: Keep, b: Keep, sizes: Sizes) -> float:
    """How far two sets agree beyond chance: 1 for the same set, 0 as two random ones, less below.

    Chance draws as many neurons as each set has in each site, so sets that only agree on how many
    neurons a layer keeps have an overlap of 0. With n neurons in a site, of which the sets have k
    and m, chance shares ``k m / n`` and at most ``min(k, m)`` can be shared; the overlap is the sum
    over sites of what is shared beyond chance, by the most that could be (Cohen's kappa where
    k = m; Cohen 1960).

    Example:
        >>> half = {"encoder.0.ffn": torch.arange(4)}
        >>> overlap(half, half, {"encoder.0.ffn": (8,)})
        1.0

    Args:
        a, b: of one backbone.
        sizes: of every site in both of them.

    Returns:
        At most 1; nan where nothing was chosen: one of the sets is all or nothing in every site.
    """
    beyond = most = 0.0
    for site in a.keys() & b.keys():
        n = sizes[Site(site)][-1]
        for one, other in zip(_rows(a[site]), _rows(b[site]), strict=True):
            chance = len(one) * len(other) / n if n else 0.0
            beyond += int(torch.isin(one, other).sum()) - chance
            most += min(len(one), len(other)) - chance
    return beyond / most if most else float("nan")


def others(keep: Keep, sizes: Sizes) -> Keep:
    """The neurons that ``keep`` lacks, in each of its sites.

    Example:
        >>> others({"encoder.0.ffn": torch.tensor([0, 2])}, {"encoder.0.ffn": (4,)})
        {'encoder.0.ffn': tensor([1, 3])}
    """
    return {site: _like(kept, _rest(kept, sizes[Site(site)][-1])) for site, kept in keep.items()}


def drawn(keep: Keep, sizes: Sizes, seed: int) -> Keep:
    """Random neurons, in each site as many as ``keep`` has there: the control of its choice."""
    generator, found = torch.Generator().manual_seed(seed), Keep()
    for site, kept in sorted(keep.items()):
        n = sizes[Site(site)][-1]
        rows = [torch.randperm(n, generator=generator)[: len(row)] for row in _rows(kept)]
        found[site] = _like(kept, [row.sort().values for row in rows])
    return found


def _rows(kept: Tensor) -> Tensor:
    """One row of indices; of dims one for each head."""
    return kept if kept.dim() == 2 else kept[None]


def _rest(kept: Tensor, n: int) -> list[Tensor]:
    every = torch.arange(n)
    return [every[~torch.isin(every, row)] for row in _rows(kept)]


def _like(kept: Tensor, rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) if kept.dim() == 2 else rows[0]
