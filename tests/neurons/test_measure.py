"""Hand-made tasks of which it is known what every neuron does."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from skip_exp.attribution import activation_gradient, random
from skip_exp.models.sites import site_sizes
from skip_exp.neurons.ablate import means
from skip_exp.neurons.measure import CONTROL, FRACTIONS, Options, ablation, areas, causal, overlaps
from skip_exp.pruning.allocate import allocate
from tests.helpers.tiny import tiny_batch, tiny_model

UNITS = 20
FIVE, OTHER_FIVE = range(5), range(10, 15)


def model_with(units, order=None):
    """A tiny BERT in which only ``units`` of each FFN reach the hidden state."""
    model = tiny_model()
    with torch.no_grad():
        for block in model.blocks():
            if block.name.part == "ffn":
                useless = [i for i in range(UNITS) if i not in units]
                block.down.weight[:, useless] = 0
                block.down.weight.mul_(8)  # else the rest of the model decides
                if order is not None:
                    block.up[0].weight.copy_(block.up[0].weight[order].clone())
                    block.up[0].bias.copy_(block.up[0].bias[order].clone())
                    block.down.weight.copy_(block.down.weight[:, order].clone())
    return model


@dataclass
class Task:
    """What `measure` asks of a subject; the score is how little the answers have moved."""

    task: str
    dense: Any
    seed: int = 1
    backbone: str = "tiny"
    method: str = "activation_gradient"
    batch: dict[str, Tensor] = field(default_factory=lambda: tiny_batch(rows=200))

    @property
    def about(self):
        return {"task": self.task, "backbone": self.backbone, "seed": self.seed}

    @property
    def sizes(self):
        return site_sizes(self.dense.shapes())

    most = 1.0

    @cached_property
    def means(self):
        return means(self.dense, [self.batch])

    def relevance_by(self, method=None):
        if method == "random":
            return random.scores(self.dense, [], seed=7)
        options = {"tokens": "sum", "sign": "absolute"}
        return activation_gradient.scores(self.dense, [self.batch], **options)

    def keep(self, ratio, relevance=None):
        how: Any = {"sites": ["ffn"], "allocation": "uniform", "round_to": 1}
        relevance = relevance or self.relevance_by()
        shapes = [shape for shape in self.dense.shapes() if shape.whole == "ffn"]
        return allocate(relevance, shapes, ratio=ratio, **how)

    def answers(self, model):
        inputs = {name: x for name, x in self.batch.items() if name != "labels"}
        with torch.inference_mode():
            return model(**inputs).softmax(-1)

    def balanced(self, model):
        moved = (self.answers(model) - self.answers(self.dense)).abs().sum(-1) / 2
        return 1 - float(moved.mean())


QUARTER = Options(ratio=0.735, methods=())  # keeps 5 of 20 units, and the bias


@pytest.fixture(scope="module")
def tasks():
    return [Task("a", model_with(FIVE)), Task("b", model_with(OTHER_FIVE))]


def test_the_skill_is_what_the_task_needs(tasks):
    for task, units in zip(tasks, (FIVE, OTHER_FIVE), strict=True):
        kept = task.keep(QUARTER.ratio)
        assert {site: keep.tolist() for site, keep in kept.items()} == {
            "encoder.0.ffn": [*units],
            "encoder.1.ffn": [*units],
        }


def test_causal_is_diagonal_for_disjoint_tasks(tasks):
    table = causal(tasks, QUARTER)
    both = table.pivot_table("harm", ["cut", "task"], "answer")
    found = table[table["answer"] == "zero"].set_index(["cut", "task"])
    for name, other in (("a", "b"), ("b", "a")):
        own, foreign = found.loc[(name, name)], found.loc[(other, name)]
        assert foreign["score"] == pytest.approx(1)  # no answer moves
        assert own["score"] < own["random"] < 1
        assert own["harm"] > 0 > foreign["harm"]
        assert both.loc[(name, name), "mean"] > 0 > both.loc[(other, name), "mean"]


def test_overlap_of_disjoint_and_of_equal_tasks(tasks):
    # 5 of 20 in each site: chance shares 1.25, so none is 1.25 below it, of the 3.75 above it.
    found = overlaps_of([*tasks, Task("a", model_with(FIVE), seed=2)])
    assert found[("a", 1), ("b", 1)] == pytest.approx(-1.25 / 3.75)
    assert found[("a", 1), ("a", 1)] == found[("a", 1), ("a", 2)] == 1


def overlaps_of(tasks):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Task, "job", NoSamples, raising=False)
        table = overlaps(tasks, QUARTER)
    jobs = table[table["between"] == "jobs"].to_dict("records")
    return {
        ((r["task"], r["seed"]), (r["other task"], r["other seed"])): r["overlap"] for r in jobs
    }


class NoSamples:
    class cfg:
        class attribution:
            samples = 256

    class data:
        train = ()


def test_curves_of_a_known_task(tasks):
    table = ablation(tasks[:1], Options(methods=()))
    assert table["removed"].between(0, 0.65).all()  # of all parameters; only the FFNs are cut
    asked = (0.0, *FRACTIONS)  # of the FFNs
    table["asked"] = [*asked] * (len(table) // len(asked))
    zero = table[table["answer"] == "zero"].set_index(["by", "first", "asked"])["score"]
    own = zero["activation_gradient"]
    for removed in (0.1, 0.2, 0.3, 0.5, 0.7):  # fifteen of twenty units do nothing
        assert own["least", removed] == pytest.approx(1)
    assert own["least", 0.9] < 1
    for removed in (0.3, 0.5, 0.7, 0.9):  # the five are gone
        assert own["most", removed] == pytest.approx(own["most", 0.9]) and own["most", 0.9] < 1
    assert zero[CONTROL]["least", 0.7] < 1
    found = areas(table).set_index(["by", "answer"])["area"]
    assert found["activation_gradient", "zero"] > found[CONTROL, "zero"]
    assert found["activation_gradient", "zero"] > 0.1


def test_curves_are_the_same_under_a_permutation_of_neurons(tasks):
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(0))
    moved = Task("a", model_with(FIVE, order))
    both = [ablation([task], Options(methods=())) for task in (tasks[0], moved)]
    mine, theirs = (t[t["by"] == "activation_gradient"] for t in both)
    pd.testing.assert_frame_equal(mine, theirs)


def test_area_by_hand():
    rows = [("least", 0.0, 0.8), ("least", 0.5, 0.8), ("least", 1.0, 0.4)]
    rows += [("most", 0.0, 0.8), ("most", 0.5, 0.4), ("most", 1.0, 0.4)]
    table = pd.DataFrame(rows, columns=["first", "removed", "score"])
    table = table.assign(task="a", backbone="b", seed=1, by="x", answer="zero")
    assert areas(table)["area"].tolist() == [pytest.approx(0.7 - 0.5)]
