"""Exact scores of two units on one text, worked out by hand, and options that are refused."""

from typing import Any

import pytest
import torch
from torch import nn

from skip_exp.attribution import (
    activation_gradient,
    fisher,
    integrated_gradients,
    magnitude,
    taylor,
)
from skip_exp.attribution.aggregate import Totals
from skip_exp.attribution.observe import Tap
from skip_exp.errors import ConfigError
from skip_exp.models.sites import Sublayer
from tests.helpers.hand import BATCH, S, TwoUnits, texts

pytestmark = pytest.mark.core

WARM = float(torch.sigmoid(torch.tensor(1.0)))
SLOPE = S * (1 - S)  # dP/dlogit
SOFT = WARM * (1 - WARM) / 4  # the same with the logits divided by 4
PATH = (S - 0.5) / 4  # scaled by a, P = sigmoid(4 a): the mean of the slopes for a in [0, 1]
METHODS = {
    "activation": activation_gradient.scores,
    "path": integrated_gradients.scores,
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
        ("path", {}, [-1.0 * PATH, 6.0 * PATH]),
        ("path", {"tokens": "sum"}, [-4.0 * PATH, 8.0 * PATH]),
        ("path", {"tokens": "sum", "sign": "absolute"}, [4.0 * PATH, 8.0 * PATH]),
        # One point is the middle of the path.
        ("path", {"tokens": "sum", "steps": 1}, [-4.0 * 0.104994, 8.0 * 0.104994]),
        # h sums to 4 and 8 over the positions; dL/dh = (1 - S) (1, -1).
        ("fisher", {}, [16 * (1 - S) ** 2, 64 * (1 - S) ** 2]),
        ("fisher", {"target": "log_odds"}, [16, 64]),
        ("path", {"target": "log_odds", "tokens": "sum"}, [-4.0, 8.0]),
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


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        *(("activation", key, "nonsense") for key in ("tokens", "sign", "target", "at")),
        *(("path", key, value) for key in ("steps", "micro_batch") for value in (0, 1.5, "many")),
        *(("path", "tokens", "nonsense"), ("magnitude", "norm", 3)),
        *(("fisher", "target", "nonsense"), ("taylor", "target", "nonsense")),
        *(("activation", "temperature", value) for value in (0, -1, float("nan"), "warm")),
        *((name, "temperature", 0.0) for name in ("path", "fisher", "taylor")),
    ],
)
def test_an_option_that_is_not_allowed_is_refused(method: str, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"attribution\.options\.{key}={value}: "):
        METHODS[method](TwoUnits(), [BATCH], **{key: value})
