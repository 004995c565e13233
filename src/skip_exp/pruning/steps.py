"""Between the steps of pruning: from the neurons of a cut model to those of the dense one and back.

``earlier`` is what the cut model kept, in indices of the dense one, as everywhere outside this file
and in the skill. Dims have a row for every head of the dense model, be the head kept or not.
"""

import torch
from torch import Tensor

from skip_exp.models.sites import Keep, Relevance, Site


def lift(own: Relevance, earlier: Keep, before: Relevance) -> Relevance:
    """The relevance ``own`` of a cut model's neurons in the shapes and places of the dense model.

    Neurons that are gone have the relevance that they had ``before`` (dense shapes): a group of
    dims stays comparable with those of layers that lost no head.
    """
    found = {}
    for site, scores in before.items():
        places = _places(site, earlier, scores)
        found[site] = scores.index_put(places, own[site].to(scores))
    return found


def _places(site: str, earlier: Keep, scores: Tensor) -> tuple[Tensor, ...]:
    """Index of the neurons that a cut model still has: (units,), or (heads, dims)."""
    kept = earlier.get(site, torch.arange(scores.shape[-1]).expand(scores.shape))
    if scores.dim() == 1:
        return (kept,)
    heads = _heads(site, earlier, len(scores))
    return heads[:, None], kept[heads]


def _heads(site: str, earlier: Keep, heads: int) -> Tensor:
    return earlier.get(Site(site).sublayer.site("heads"), torch.arange(heads))


def relative(keep: Keep, earlier: Keep) -> Keep:
    """``keep`` in indices of the model that was cut to ``earlier``: both in those of the dense one.

    ``cut(cut(dense, earlier), relative(keep, earlier))`` equals ``cut(dense, keep)``.

    Raises:
        ValueError: a neuron that is gone already.
    """
    found = {}
    for site, kept in keep.items():
        had = earlier.get(site)
        if kept.dim() == 2:
            heads = _heads(site, earlier, len(kept))
            kept, had = kept[heads], None if had is None else had[heads]
        if had is None:
            found[site] = kept
            continue
        place = torch.searchsorted(had.contiguous(), kept.contiguous())
        inside = place < had.shape[-1]
        if not inside.all() or not had.gather(-1, place).equal(kept):
            raise ValueError(f"{site}: cannot keep what is gone already")
        found[site] = place
    return found
