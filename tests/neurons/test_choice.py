import math

import pytest
import torch
from torch import arange, tensor

from skip_exp.models.sites import Site
from skip_exp.neurons.choice import drawn, others, overlap

FFN, HEADS, VO = (Site(f"encoder.0.{name}") for name in ("ffn", "self.heads", "self.vo"))
SIZES = {FFN: (8,), HEADS: (4,), VO: (2, 4)}


def test_the_same_neurons_overlap_by_one():
    keep = {FFN: tensor([0, 3, 5]), HEADS: tensor([1])}
    assert overlap(keep, keep, SIZES) == 1


def test_by_hand():
    # FFN: 2 shared, chance 4 * 4 / 8 = 2. Heads: 1 shared, chance 2 * 2 / 4 = 1, at most 2.
    half = {FFN: arange(4), HEADS: tensor([0, 1])}
    assert overlap(half, {FFN: tensor([0, 1, 4, 5]), HEADS: tensor([1, 2])}, SIZES) == 0
    # FFN: 3 shared, 1 beyond chance of the 2 that could be. Heads: 1 of 1.
    assert overlap(half, {FFN: tensor([0, 1, 2, 7]), HEADS: tensor([0, 1])}, SIZES) == 2 / 3


def test_disjoint_halves_are_far_below_chance():
    assert overlap({FFN: arange(4)}, {FFN: arange(4, 8)}, SIZES) == -1


def test_agreeing_on_the_layers_alone_is_chance():
    n = 4000
    sizes = {Site(f"encoder.{i}.ffn"): (n,) for i in range(2)}
    kept = dict(zip(sizes, (3000, 100), strict=True))
    a, b = (
        {site: torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:k].sort().values
         for site, k in kept.items()}
        for seed in (0, 1)
    )  # fmt: skip
    assert overlap(a, b, sizes) == pytest.approx(0, abs=0.05)


def test_dims_are_compared_head_by_head():
    a = {VO: tensor([[0, 1], [0, 1]])}
    assert overlap(a, {VO: tensor([[0, 1], [2, 3]])}, SIZES) == 0  # +1 and -1


def test_nothing_was_chosen():
    assert math.isnan(overlap({FFN: arange(8)}, {FFN: arange(8)}, SIZES))
    assert math.isnan(overlap({FFN: arange(0)}, {FFN: arange(0)}, SIZES))


def test_overlap_is_the_same_under_a_permutation_of_neurons():
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    a, b = tensor([0, 1, 2]), tensor([1, 2, 6])
    moved = [{FFN: order[kept].sort().values} for kept in (a, b)]
    assert overlap(*moved, SIZES) == overlap({FFN: a}, {FFN: b}, SIZES)


def test_others():
    found = others({FFN: tensor([0, 2]), VO: tensor([[0, 1], [1, 3]])}, SIZES)
    assert found[FFN].tolist() == [1, 3, 4, 5, 6, 7]
    assert found[VO].tolist() == [[2, 3], [0, 2]]


def test_drawn_has_as_many_in_every_site_by_its_seed():
    keep = {FFN: arange(5), VO: tensor([[0, 1], [0, 1]]), HEADS: arange(0)}
    found, again, other = (drawn(keep, SIZES, seed) for seed in (1, 1, 2))
    assert {site: kept.shape for site, kept in found.items()} == {
        site: kept.shape for site, kept in keep.items()
    }
    assert all(torch.equal(found[site], again[site]) for site in keep)
    assert any(not torch.equal(found[site], other[site]) for site in keep)
    for kept in found.values():
        assert bool((kept.diff() > 0).all())  # sorted, none twice
