"""Exact scores of two units and exact targets, worked out by hand; options that are refused."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from skip_exp.attribution import (
    activation_gradient,
    fisher,
    magnitude,
    taylor,
)
from skip_exp.attribution.observe import Tap, Totals
from skip_exp.attribution.target import true_label
from skip_exp.models.family import Sublayer
from tests.helpers.hand import BATCH, S, TwoUnits, texts

pytestmark = pytest.mark.core

WARM = float(torch.sigmoid(torch.tensor(1.0)))
SLOPE = S * (1 - S)  # dP/dlogit
SOFT = WARM * (1 - WARM) / 4  # the same with the logits divided by 4
METHODS = {
    "activation": activation_gradient.scores,
    "fisher": fisher.scores,
    "taylor": taylor.scores,
    "magnitude": magnitude.scores,
}


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("activation", {}, [-1.0 * SLOPE, 6.0 * SLOPE]),
        ("activation", {"tokens": "sum"}, [-4.0 * SLOPE, 8.0 * SLOPE]),
        ("activation", {"tokens": "mean"}, [-2.0 * SLOPE, 4.0 * SLOPE]),
        ("activation", {"sign": "absolute"}, [3.0 * SLOPE, 6.0 * SLOPE]),
        ("activation", {"target": "log_probability"}, [-1.0 * (1 - S), 6.0 * (1 - S)]),
        ("activation", {"target": "log_odds"}, [-1.0, 6.0]),
        ("activation", {"target": "log_odds", "temperature": 4}, [-1.0 / 4, 6.0 / 4]),
        ("activation", {"temperature": 4}, [-1.0 * SOFT, 6.0 * SOFT]),
        # Over the positions h * dP/dh is -1, -3 and 2, 6.
        ("activation", {"tokens": "sum", "sign": "text"}, [4.0 * SLOPE, 8.0 * SLOPE]),
        ("activation", {"sign": "text"}, [1.0 * SLOPE, 6.0 * SLOPE]),
        # h sums to 4 and 8 over the positions; dL/dh = (1 - S) (1, -1).
        ("fisher", {}, [16 * (1 - S) ** 2, 64 * (1 - S) ** 2]),
        ("fisher", {"target": "log_odds"}, [16, 64]),
        ("taylor", {"target": "log_odds", "temperature": 2}, [8, 32]),
        # At x = 1, 3: w * dL/dw = 4 (1 - S) in and out; -8 (1 - S) each.
        ("taylor", {}, [32 * (1 - S) ** 2, 128 * (1 - S) ** 2]),
        # Weights in 1 and 2, out 1 and 1.
        ("magnitude", {}, [2**0.5, 5**0.5]),
        ("magnitude", {"norm": 1}, [2.0, 3.0]),
    ],
)
def test_by_hand(method: str, options: dict[str, Any], expected: list[float]) -> None:
    found = METHODS[method](TwoUnits(), [BATCH], **options)
    assert found["encoder.0.ffn"].tolist() == pytest.approx(expected, rel=1e-4)


def test_activation_gradient_is_a_mean_over_texts_not_over_batches() -> None:
    three = {k: v.expand(3, *v.shape[1:]).clone() for k, v in BATCH.items()}
    three["input_ids"][2] = 0
    found = activation_gradient.scores(TwoUnits(), [three, BATCH], tokens="sum")
    assert found["encoder.0.ffn"][1] == pytest.approx(3 / 4 * 8 * SLOPE, rel=1e-4)


def test_raw_outputs_of_the_linears() -> None:
    """u = (1, 2), h = u^2, logits 1 and 4: u * dP/du = 2 h * dP/dh."""
    batch, s = texts([1], labels=[1]), float(torch.sigmoid(torch.tensor(3.0)))
    for at, factor in (("neurons", 1), ("linears", 2)):
        found = activation_gradient.scores(TwoUnits(power=2), [batch], at=at)
        expected = [-factor * s * (1 - s), 4 * factor * s * (1 - s)]
        assert found["encoder.0.ffn"].tolist() == pytest.approx(expected, rel=1e-4)


def test_fisher_and_taylor_square_for_each_text() -> None:
    """Two texts whose gradients would cancel out; a text of zeros changes nothing but the mean."""
    both = texts([1, -1, 2], [1, -1, 2], labels=[0, 1])
    model = TwoUnits()
    model.down.weight.data = torch.ones(2, 2)
    model.down.weight.data[0] = 0.0  # logits 0 and 3 x: P(1) = sigmoid(6)
    found = fisher.scores(model, [both])
    p = float(torch.sigmoid(torch.tensor(6.0)))
    mean = (p**2 + (1 - p) ** 2) / 2
    assert found["encoder.0.ffn"].tolist() == pytest.approx([4 * mean, 16 * mean], rel=1e-4)
    both = texts([1, 3, 50], [0, 0, 0], labels=[1, 1])
    found = taylor.scores(TwoUnits(), [both])
    assert found["encoder.0.ffn"][0] == pytest.approx(16 * (1 - S) ** 2, rel=1e-4)


@pytest.mark.parametrize(("sign", "expected"), [("signed", -1), ("text", 3), ("absolute", 5)])
def test_the_rows_of_a_decoder_count_as_one_text(sign: str, expected: float) -> None:
    """Two texts with a row for each of two labels: 3 - 1 and 1 + (-3 - 2) over the positions."""
    values = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-3.0, -2.0]])[..., None]
    totals = Totals(TwoUnits())
    tap = Tap(nn.Linear(1, 1), True, sublayer=Sublayer("decoder.0.ffn"))
    totals.sums["decoder.0.ffn"] = torch.zeros(1, dtype=torch.float64)
    totals.add_positions(tap, values, 2, None, "sum", sign)
    assert totals.means(2)["decoder.0.ffn"].item() == expected


def test_the_bias_of_a_unit_counts_in_its_magnitude() -> None:
    model = TwoUnits()
    model.up.bias = torch.nn.Parameter(torch.tensor([2.0, -2.0]))
    found = magnitude.scores(model, [])["encoder.0.ffn"]
    assert found.tolist() == pytest.approx([6**0.5, 3.0])


LOGITS = torch.tensor([[0.0, 1.0, 3.0], [2.0, -1.0, 0.5]])
LABELS = torch.tensor([2, 1])
TARGETS = ("probability", "log_probability", "log_odds")


def gradient(target: str, temperature: float = 1.0, logits: torch.Tensor = LOGITS) -> torch.Tensor:
    z = logits.clone().requires_grad_()
    return torch.autograd.grad(true_label(z, LABELS, target, temperature).sum(), z)[0]


def test_values_by_hand() -> None:
    others = [math.log(1 + math.e), math.log(math.e**2 + math.e**0.5)]
    odds = torch.tensor([3 - others[0], -1 - others[1]])
    torch.testing.assert_close(true_label(LOGITS, LABELS, "log_odds"), odds)
    torch.testing.assert_close(true_label(LOGITS, LABELS, "probability"), odds.sigmoid())
    torch.testing.assert_close(true_label(LOGITS, LABELS, "log_probability"), odds.sigmoid().log())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradients_are_those_of_the_docstring(temperature: float) -> None:
    p = (LOGITS / temperature).softmax(1)
    right = torch.nn.functional.one_hot(LABELS, 3).bool()
    own = p[right][:, None]
    expected = {
        "probability": torch.where(right, own * (1 - own), -own * p),
        "log_probability": torch.where(right, 1 - own, -p),
        "log_odds": torch.where(right, 1.0, -p / (1 - own)),
    }
    for target in TARGETS:
        found = gradient(target, temperature)
        torch.testing.assert_close(found, expected[target] / temperature)


def test_only_the_log_odds_weigh_a_sure_text_like_any_other() -> None:
    sure = LOGITS.clone()
    sure[0, 2] += 40  # P is 1 to the last bit
    for target in ("probability", "log_probability"):
        assert gradient(target, logits=sure)[0].abs().max() < 1e-12
    torch.testing.assert_close(gradient("log_odds", logits=sure), gradient("log_odds"))


def test_with_two_labels_a_soft_log_probability_is_half_the_log_odds() -> None:
    z = torch.tensor([[1.0, 9.0]], requires_grad=True)
    label = torch.tensor([1])
    soft = torch.autograd.grad(1e6 * true_label(z, label, "log_probability", 1e6).sum(), z)[0]
    torch.testing.assert_close(soft, torch.tensor([[-0.5, 0.5]]), atol=1e-4, rtol=0)
    odds = torch.autograd.grad(true_label(z, label, "log_odds").sum(), z)[0]
    torch.testing.assert_close(odds, torch.tensor([[-1.0, 1.0]]))


def test_bf16_logits_are_read_in_fp32() -> None:
    assert true_label(LOGITS.bfloat16(), LABELS, "log_odds").dtype == torch.float32


def test_of_several_labels_every_answer_counts() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    odds = LOGITS * torch.tensor([[1, -1, 1], [-1, -1, -1]]) / 2
    found = {target: true_label(LOGITS, labels, target, 2.0) for target in TARGETS}
    torch.testing.assert_close(found["log_odds"], odds.sum(1))
    torch.testing.assert_close(found["probability"], odds.sigmoid().sum(1))
    torch.testing.assert_close(found["log_probability"], odds.sigmoid().log().sum(1))
