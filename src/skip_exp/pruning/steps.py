"""Between the steps of pruning: from the neurons of a cut model to those of the dense one and back.

``earlier`` is what the cut model kept, in indices of the dense one, as everywhere outside this file
and in the skill. Dims have a row for every head of the dense model, be the head kept or not.
"""

import torch
from torch import Tensor

from skip_exp.models.sites import Keep, Relevance, Site


def lift(relevance: Relevance, earlier: Keep, before: Relevance) -> Relevance:
    """The ``relevance`` of a cut model's neurons in the shapes and places of the dense model.

    Neurons that are gone have the relevance that they had ``before`` (dense shapes): a group of
    dims stays comparable with those of layers that lost no head.
    """
    lifted = {}
    for site, scores in before.items():
        places = _places(site, earlier, scores)
        lifted[site] = scores.index_put(places, relevance[site].to(scores))
    return lifted


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
    relative_keep = {}
    for site, kept in keep.items():
        earlier_kept = earlier.get(site)
        if kept.dim() == 2:
            heads = _heads(site, earlier, len(kept))
            kept, earlier_kept = kept[heads], None if earlier_kept is None else earlier_kept[heads]
        if earlier_kept is None:
            relative_keep[site] = kept
            continue
        place = torch.searchsorted(earlier_kept.contiguous(), kept.contiguous())
        is_within = place < earlier_kept.shape[-1]
        if not is_within.all() or not earlier_kept.gather(-1, place).equal(kept):
            raise ValueError(f"{site}: cannot keep what is gone already")
        relative_keep[site] = place
    return relative_keep
