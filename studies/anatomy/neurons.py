"""Sets of neurons: how far two of them agree, what is left of one, and one drawn at random.

Pure functions of keeps: {site: sorted indices}. Here a keep may be any set of heads and FFN units;
it says nothing about the sites that it lacks.
"""

from collections.abc import Mapping

import torch

from skip_exp.models.family import Keep, Relevance, Site

Sizes = Mapping[Site, int]  # the number of neurons of each site


def overlap(a: Keep, b: Keep, sizes: Sizes) -> float:
    """How far two sets agree beyond chance: 1 for the same set, 0 as two random ones, less below.

    Chance draws as many neurons as each set has in each site, so sets that only agree on how many
    neurons a layer keeps have an overlap of 0. With n neurons in a site, of which the sets have k
    and m, chance shares ``k m / n`` and at most ``min(k, m)`` can be shared; the overlap is the sum
    over sites of what is shared beyond chance, by the most that could be (Cohen's kappa where
    k = m; Cohen 1960).

    Example:
        >>> half = {"encoder.0.ffn": torch.arange(4)}
        >>> overlap(half, half, {"encoder.0.ffn": 8})
        1.0

    Args:
        a, b: of one backbone.
        sizes: of every site in both of them.

    Returns:
        At most 1; nan where nothing was chosen: one of the sets is all or nothing in every site.
    """
    beyond = most = 0.0
    for site in a.keys() & b.keys():
        chance = len(a[site]) * len(b[site]) / sizes[Site(site)]
        beyond += int(torch.isin(a[site], b[site]).sum()) - chance
        most += min(len(a[site]), len(b[site])) - chance
    return beyond / most if most else float("nan")


def invert(keep: Keep, sizes: Sizes) -> Keep:
    """The neurons that ``keep`` lacks, in each of its sites.

    Example:
        >>> invert({"encoder.0.ffn": torch.tensor([0, 2])}, {"encoder.0.ffn": 4})
        {'encoder.0.ffn': tensor([1, 3])}
    """
    rest = Keep()
    for site, kept in keep.items():
        every = torch.arange(sizes[Site(site)])
        rest[site] = every[~torch.isin(every, kept)]
    return rest


def draw(keep: Keep, sizes: Sizes, seed: int) -> Keep:
    """Random neurons, in each site as many as ``keep`` has there: the control of its choice."""
    generator = torch.Generator().manual_seed(seed)
    drawn = Keep()
    for site, kept in sorted(keep.items()):
        order = torch.randperm(sizes[Site(site)], generator=generator)
        drawn[site] = order[: len(kept)].sort().values
    return drawn


def pick(keep: Keep, kind: str) -> Keep:
    """The sites of one kind, such as ``encoder.self.heads``, in every layer."""
    return {site: kept for site, kept in keep.items() if Site(site).like == kind}


def reverse(relevance: Relevance) -> Relevance:
    """Scores that are lowest where ``relevance`` is highest: the most relevant goes first."""
    return {site: -scores for site, scores in relevance.items()}
