import math

import pytest
import torch

from skip_exp.data.metrics import (
    build_metrics,
    calibration_error,
    find_shift,
    fit_temperature,
    majority_scores,
)

from .conftest import spec

PREDS = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0])
LABELS = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0])  # 2 true, 1 false positive, 1 false negative


def test_hand_computed_values_over_two_batches() -> None:
    metrics = build_metrics(spec(metrics=["matthews", "f1", "accuracy", "f1_macro"]))
    metrics.update(PREDS[:3], LABELS[:3])
    metrics.update(PREDS[3:], LABELS[3:])
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values == pytest.approx(
        {
            "accuracy": 6 / 8,
            "f1": 2 * 2 / (2 * 2 + 1 + 1),
            "f1_macro": (4 / 6 + 8 / 10) / 2,
            "matthews": (2 * 4 - 1 * 1) / (3 * 3 * 5 * 5) ** 0.5,
        }
    )


def test_three_labels() -> None:
    task = spec(labels=["x", "y", "z"], metrics=["f1_macro", "accuracy"])
    metrics = build_metrics(task)
    metrics.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]))
    values = {name: float(value) for name, value in metrics.compute().items()}
    assert values == pytest.approx({"accuracy": 3 / 4, "f1_macro": (1 + 2 / 3 + 2 / 3) / 3})


def test_majority_is_scored_by_every_metric_of_the_task() -> None:
    task = spec(metrics=["f1", "accuracy", "f1_macro", "matthews"])
    found = majority_scores(task, [0, 1, 1, 1])
    assert found == pytest.approx(
        {"accuracy": 0.75, "f1": 6 / 7, "f1_macro": 3 / 7, "matthews": 0.0}
    )
    assert majority_scores(task, [0, 0, 1])["f1"] == 0  # F1 is of label 1


# 60 rows that all claim a probability of 0.9 for label 0, which 45 of them have.
SURE = torch.tensor([[math.log(9), 0.0]] * 60)
RIGHT = torch.tensor([0] * 45 + [1] * 15)


def test_the_temperature_makes_claims_as_frequent_as_they_are_true() -> None:
    # With one row that is half label 0 and half label 1, 45.5 of 61 have label 0.
    wanted = 45.5 / 61
    temperature = fit_temperature(SURE, RIGHT)
    assert temperature == pytest.approx(math.log(9) / math.log(wanted / (1 - wanted)), abs=1e-3)
    assert calibration_error(SURE, RIGHT) == pytest.approx(0.9 - 0.75, abs=1e-6)
    assert calibration_error(SURE, RIGHT, temperature) == pytest.approx(0.75 - wanted, abs=1e-3)


def test_a_tiny_slice_changes_nothing_and_a_perfect_one_claims_no_certainty() -> None:
    assert fit_temperature(SURE[:49], RIGHT[:49]) == 1
    right = torch.zeros(60, dtype=torch.long)
    claimed = (SURE / fit_temperature(SURE, right)).softmax(-1)[0, 0].item()
    assert claimed == pytest.approx(60.5 / 61, abs=1e-4)


def leads(rare: list[float], others: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of rows by how far the frequent label 0 leads the rare label 1."""
    lead = torch.tensor([*rare, *others])
    labels = torch.tensor([1] * len(rare) + [0] * len(others))
    return torch.stack([lead, torch.zeros_like(lead)], 1), labels


def test_a_rare_label_is_shifted_to_the_best_f1_macro() -> None:
    rows = leads([1.0, 2.0], [3.0] * 48)
    assert find_shift(*rows, [1]) == [0.0, 2.5]
    assert find_shift(*rows, []) == find_shift(*rows, [0]) == []  # 0 is given enough
    logits, labels = leads([1.0, 2.0], [3.0] * 47)
    assert find_shift(logits, labels, [1]) == []  # too few rows
    assert find_shift(*leads([], [3.0] * 50), [1]) == []  # none of the label
    assert find_shift(*leads([-1.0, -2.0], [4.0, 6.0] * 24), [1]) == []  # all are right


def test_two_rare_labels_are_shifted_in_turn() -> None:
    logits = torch.tensor([[4.0, 0, 0]] * 50 + [[2.0, 1, 0]] * 2 + [[2.0, 0, 1]] * 3)
    labels = torch.tensor([0] * 50 + [1] * 2 + [2] * 3)
    shift = torch.tensor(find_shift(logits, labels, [1, 2]))
    assert ((logits + shift).argmax(1) == labels).all() and shift[0] == 0
