"""Hand-made tasks of which it is known what every neuron does."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, tensor

from skip_exp.attribution import activation_gradient
from skip_exp.models.shapes import shapes_of, site_sizes
from skip_exp.phases.build import phase_seed
from skip_exp.pruning.allocate import allocate
from studies.anatomy.measure import (
    CONTROL,
    FRACTIONS,
    Options,
    ablation,
    calibration_error,
    causal,
    overlaps,
)
from studies.anatomy.pictures import areas
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
                block.down.weight[:, useless] = 0
                block.down.weight.mul_(8)  # else the rest of the model decides
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


def test_curves_of_a_known_task(tasks):
    table = pd.DataFrame(ablation(tasks[:1], Options()))
    assert table["removed"].between(0, 0.65).all()  # of all parameters; only the FFNs are cut
    asked = (0.0, *FRACTIONS)  # of the FFNs
    table["asked"] = [*asked] * (len(table) // len(asked))
    curves = table.set_index(["by", "first", "asked"])["score"]
    own = curves["activation_gradient"]
    for removed in (0.1, 0.2, 0.3, 0.5, 0.7):  # fifteen of twenty units do nothing
        assert own["least", removed] == pytest.approx(1)
    assert own["least", 0.9] < 1
    for removed in (0.3, 0.5, 0.7, 0.9):  # the five are gone
        assert own["most", removed] == pytest.approx(own["most", 0.9]) and own["most", 0.9] < 1
    assert curves[CONTROL]["least", 0.7] < 1
    found = areas(table).set_index("by")["area"]
    assert found["activation_gradient"] > found[CONTROL]
    assert found["activation_gradient"] > 0.1


def test_calibration_error_by_hand():
    # Bin of 0.85: two of three are right, |0.85 - 2/3| * 3/4. Bin of 0.65: right, 0.35 / 4.
    sure = tensor([[0.85, 0.15], [0.15, 0.85], [0.85, 0.15], [0.35, 0.65]])
    error = calibration_error(sure.log(), tensor([0, 1, 1, 1]))
    assert error == pytest.approx(0.75 * (0.85 - 2 / 3) + 0.25 * 0.35, abs=1e-5)


def test_certainty_is_in_the_last_bin():
    logits = tensor([[100.0, -100.0], [2.44, 0.0]])  # 1.0, which is wrong, and 0.92, right
    confidence = (1.0 + float(logits[1].softmax(-1)[0])) / 2
    error = calibration_error(logits, tensor([1, 0]))
    assert error == pytest.approx(confidence - 0.5, abs=1e-5)
