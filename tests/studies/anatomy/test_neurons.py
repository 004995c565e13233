import math

import pytest
import torch
from torch import arange, tensor

from skip_exp.models.sites import Site
from studies.anatomy.neurons import draw, invert, overlap, reverse

FFN, HEADS = Site("encoder.0.ffn"), Site("encoder.0.self.heads")
SIZES = {FFN: 8, HEADS: 4}


def test_the_same_neurons_overlap_by_one():
    keep = {FFN: tensor([0, 3, 5]), HEADS: tensor([1])}
    assert overlap(keep, keep, SIZES) == 1


def test_overlap_by_hand():
    # FFN: 2 shared, chance 4 * 4 / 8 = 2. Heads: 1 shared, chance 2 * 2 / 4 = 1, at most 2.
    half = {FFN: arange(4), HEADS: tensor([0, 1])}
    assert overlap(half, {FFN: tensor([0, 1, 4, 5]), HEADS: tensor([1, 2])}, SIZES) == 0
    # FFN: 3 shared, 1 beyond chance of the 2 that could be. Heads: 1 of 1.
    assert overlap(half, {FFN: tensor([0, 1, 2, 7]), HEADS: tensor([0, 1])}, SIZES) == 2 / 3
    assert overlap({FFN: arange(4)}, {FFN: arange(4, 8)}, SIZES) == -1


def test_agreeing_on_the_layers_alone_is_chance():
    sizes = {Site(f"encoder.{i}.ffn"): 4000 for i in range(2)}
    keep = {site: arange(k) for site, k in zip(sizes, (3000, 100), strict=True)}
    assert overlap(draw(keep, sizes, 0), draw(keep, sizes, 1), sizes) == pytest.approx(0, abs=0.05)


def test_nothing_was_chosen():
    assert math.isnan(overlap({FFN: arange(8)}, {FFN: arange(8)}, SIZES))
    assert math.isnan(overlap({FFN: arange(0)}, {FFN: arange(0)}, SIZES))


def test_invert():
    found = invert({FFN: tensor([0, 2]), HEADS: arange(4)}, SIZES)
    assert found[FFN].tolist() == [1, 3, 4, 5, 6, 7]
    assert found[HEADS].tolist() == []


def test_draw_has_as_many_in_every_site_by_its_seed():
    keep = {FFN: arange(5), HEADS: arange(0)}
    found, again, other = (draw(keep, SIZES, seed) for seed in (1, 1, 2))
    assert [len(found[FFN]), len(found[HEADS])] == [5, 0]
    assert torch.equal(found[FFN], again[FFN])
    assert not torch.equal(found[FFN], other[FFN])
    assert bool((found[FFN].diff() > 0).all())  # sorted, none twice


def test_reverse_turns_the_order_around():
    assert reverse({FFN: tensor([0.1, 0.5, 0.3])})[FFN].argsort().tolist() == [1, 2, 0]
