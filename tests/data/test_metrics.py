import pytest
import torch

from skip_exp.data.metrics import build_metrics, majority_scores

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
