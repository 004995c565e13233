"""Distillation from hidden states."""

from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection

from skip_exp.config.schema import RetuneConfig
from skip_exp.models.hidden import layer_states, text_means
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.surgery import cut
from skip_exp.training.hidden import HiddenTargets
from skip_exp.training.module import PromptTuner
from tests.helpers.tiny import tiny_batch, tiny_model


def test_by_hand() -> None:
    # One layer of two numbers: rows (0, 0) and (2, 4), centre (1, 2), squared distances 5 and 5.
    means = torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]])
    targets = HiddenTargets.of(means, weight=0.5)
    assert targets.centre.tolist() == [[1.0, 2.0]]
    assert targets.spread.item() == pytest.approx(5**0.5)
    scaled = targets.scaled(means)
    assert float(targets.loss(means, scaled, [0])) == 0
    mean_for_all = targets.centre.expand(2, 1, 2)
    assert float(targets.loss(mean_for_all, scaled, [0])) == pytest.approx(1)
    # (1, 2) for (0, 0) is off by a root of 5: 1; (2, 4) for itself: 0; of both: a half.
    half = torch.tensor([[[1.0, 2.0]], [[2.0, 4.0]]])
    assert float(targets.loss(half, scaled, [0])) == pytest.approx(0.5)


def test_only_the_layers_that_are_left_count() -> None:
    means = torch.randn(5, 3, 4)
    targets = HiddenTargets.of(means, weight=1)
    wrong = means.clone()
    wrong[:, 1] += 1
    assert float(targets.loss(wrong, targets.scaled(means), [0, 2])) == 0
    assert float(targets.loss(wrong, targets.scaled(means), [0, 1, 2])) > 0


def test_a_layer_that_gives_the_same_for_every_text_stays_finite() -> None:
    targets = HiddenTargets.of(torch.ones(3, 1, 2), weight=1)
    assert targets.scaled(torch.ones(3, 1, 2)).eq(0).all()


def loss(model: SoftPromptModel, batch: Any, hidden: HiddenTargets | None) -> float:
    tuner = PromptTuner(model, "retune", RetuneConfig(), MetricCollection({}), 0.0, hidden)
    tuner.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return float(tuner.training_step(batch, 0))


def test_the_dense_model_has_nothing_to_learn_from_itself() -> None:
    model, batch = tiny_model(), tiny_batch()
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    with torch.no_grad(), layer_states(model) as states:
        model(**inputs)
    means = text_means(states, batch["attention_mask"])
    hidden = HiddenTargets.of(means, weight=3.0)
    taught = batch | {"hidden": hidden.scaled(means)}
    assert loss(model, taught, hidden) == pytest.approx(loss(model, batch, None), abs=1e-4)
    smaller = cut(model, {"encoder.0.ffn": torch.arange(5)})
    assert loss(smaller, taught, hidden) > loss(smaller, batch, None) + 0.01
    hidden.weight = 6.0
    added = loss(smaller, taught, hidden) - loss(smaller, batch, None)
    hidden.weight = 3.0
    assert added == pytest.approx(2 * (loss(smaller, taught, hidden) - loss(smaller, batch, None)))
