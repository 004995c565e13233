"""The targets of gradient methods: values and gradients in the logits, against autograd."""

import math

import pytest
import torch

from skip_exp.attribution.target import true_label

pytestmark = pytest.mark.core

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
