"""Overlaps, areas and pictures by hand; hand-made tasks whose neurons are known."""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, arange, tensor

from skip_exp.attribution import activation_gradient
from skip_exp.models.family import Site
from skip_exp.models.surgery import shapes_of, site_sizes
from skip_exp.phases.build import phase_seed
from skip_exp.pruning.allocate import allocate
from studies.anatomy import pictures
from studies.anatomy.measure import (
    Options,
    causal,
    overlaps,
)
from studies.anatomy.neurons import draw, overlap
from tests.helpers.tiny import tiny_batch, tiny_model

UNITS = 20
FIVE, OTHER_FIVE = range(5), range(10, 15)


def model_with(units):
    """A tiny BERT in which only ``units`` of each FFN reach the hidden state."""
    model = tiny_model()
    with torch.no_grad():
        for block in model.blocks():
            if block.name.part == "ffn":
                useless = [i for i in range(UNITS) if i not in units]
                block.output.weight[:, useless] = 0
                block.output.weight.mul_(8)  # else the rest of the model decides
    return model


@dataclass
class Task:
    """What `measure` asks of a subject; the score is how little the answers have moved."""

    task: str
    dense: Any
    seed: int = 1
    backbone: str = "tiny"
    batch: dict[str, Tensor] = field(default_factory=lambda: tiny_batch(rows=200))

    @property
    def about(self):
        return {"task": self.task, "backbone": self.backbone, "seed": self.seed}

    @property
    def sizes(self):
        return site_sizes(shapes_of(self.dense))

    def draw_seed(self, purpose):
        return phase_seed(self.seed, purpose)

    def relevance_by(self, method=None):
        options = {"tokens": "sum", "sign": "absolute"}
        return activation_gradient.scores(self.dense, [self.batch], **options)

    def relevance_from(self, samples):
        return self.relevance_by()

    def keep(self, ratio, relevance=None):
        how: Any = {"sites": ["ffn"], "allocation": "uniform", "round_to": 1}
        relevance = relevance or self.relevance_by()
        shapes = [shape for shape in shapes_of(self.dense) if shape.name.part == "ffn"]
        return allocate(relevance, shapes, ratio=ratio, **how)

    def answers(self, model):
        inputs = {name: x for name, x in self.batch.items() if name != "labels"}
        with torch.inference_mode():
            return model(**inputs).softmax(-1)

    def balanced(self, model):
        moved = (self.answers(model) - self.answers(self.dense)).abs().sum(-1) / 2
        return 1 - float(moved.mean())


QUARTER = Options(ratio=0.735)  # keeps 5 of 20 units, and the bias


@pytest.fixture(scope="module")
def tasks():
    return [Task("a", model_with(FIVE)), Task("b", model_with(OTHER_FIVE))]


def test_causal_is_diagonal_for_disjoint_tasks(tasks):
    found = pd.DataFrame(causal(tasks, QUARTER)).set_index(["cut", "task"])
    for name, other in (("a", "b"), ("b", "a")):
        own, foreign = found.loc[(name, name)], found.loc[(other, name)]
        assert foreign["score"] == pytest.approx(1)  # no answer moves
        assert own["score"] < own["random"] < 1
        assert own["harm"] > 0 > foreign["harm"]


def test_overlap_of_disjoint_and_of_equal_tasks(tasks):
    # 5 of 20 in each site: chance shares 1.25, so none is 1.25 below it, of the 3.75 above it.
    rows = list(overlaps([*tasks, Task("a", model_with(FIVE), seed=2)], QUARTER))
    found = {
        (r["task"], r["seed"], r["other task"], r["other seed"]): r["overlap"]
        for r in rows
        if r["between"] == "jobs"
    }
    assert found["a", 1, "b", 1] == pytest.approx(-1.25 / 3.75)
    assert found["a", 1, "a", 1] == found["a", 1, "a", 2] == 1
    assert [r["overlap"] for r in rows if r["between"] == "samples"] == [1, 1, 1]


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


def test_area_by_hand():
    rows = [("least", 0.0, 0.8), ("least", 0.5, 0.8), ("least", 1.0, 0.4)]
    rows += [("most", 0.0, 0.8), ("most", 0.5, 0.4), ("most", 1.0, 0.4)]
    table = pd.DataFrame(rows, columns=["first", "removed", "score"])
    table = table.assign(task="a", backbone="b", seed=1, by="x")
    assert pictures.areas(table)["area"].tolist() == [pytest.approx(0.7 - 0.5)]


def test_the_stored_table_has_a_picture():
    table = pd.read_csv(pictures.TABLES / "ablation.csv")
    assert len(pictures.ablation(table).axes) == table["task"].nunique()
    assert (pictures.OUT / "ablation.png").is_file()
