"""One label per text: metrics, calibration and the shift of rare labels."""

import math

import numpy as np
import pytest
import torch

from skip_exp.data.sources import score_majority
from skip_exp.outcomes.one_label import OneLabel
from skip_exp.outcomes.registry import fit_temperature
from tests.data.conftest import spec

ONE = OneLabel()


def test_majority_is_scored_by_every_metric_of_the_task() -> None:
    task = spec(metrics=["f1", "accuracy", "f1_macro", "matthews"])
    found = score_majority(task, [0, 1, 1, 1])
    assert found == {"accuracy": 0.75, "f1": 6 / 7, "f1_macro": 3 / 7, "matthews": 0.0}
    assert score_majority(task, [0, 0, 1])["f1"] == 0  # F1 is of label 1


# 60 rows that all claim a probability of 0.9 for label 0, which 45 of them have.
SURE = torch.tensor([[math.log(9), 0.0]] * 60)
RIGHT = torch.tensor([0] * 45 + [1] * 15)


def test_the_temperature_makes_claims_as_frequent_as_they_are_true() -> None:
    # With one row that is half label 0 and half label 1, 45.5 of 61 have label 0.
    wanted = 45.5 / 61
    temperature = fit_temperature(ONE, SURE, RIGHT)
    assert temperature == pytest.approx(math.log(9) / math.log(wanted / (1 - wanted)), abs=1e-3)
    assert ONE.calibration_error(SURE.numpy(), RIGHT.numpy()) == pytest.approx(0.9 - 0.75, abs=1e-6)
    error = ONE.calibration_error(SURE.numpy() / temperature, RIGHT.numpy())
    assert error == pytest.approx(0.75 - wanted, abs=1e-3)


def test_a_tiny_slice_changes_nothing_and_a_perfect_one_claims_no_certainty() -> None:
    assert fit_temperature(ONE, SURE[:49], RIGHT[:49]) == 1
    right = torch.zeros(60, dtype=torch.long)
    claimed = (SURE / fit_temperature(ONE, SURE, right)).softmax(-1)[0, 0].item()
    assert claimed == pytest.approx(60.5 / 61, abs=1e-4)


def find_shift(logits: list[list[float]], labels: list[int], of_train: list[int]) -> list[float]:
    arrays = np.array(logits, np.float32), np.array(labels)
    return ONE.find_shift("f1_macro", *arrays, of_train)


RARE = [0] * 95 + [1] * 5


def leads(rare: list[float], others: list[float]) -> tuple[list[list[float]], list[int]]:
    """Logits and labels of rows by how far the frequent label 0 leads the rare label 1."""
    return [[lead, 0.0] for lead in [*rare, *others]], [1] * len(rare) + [0] * len(others)


def test_a_rare_label_is_shifted_to_the_best_f1_macro() -> None:
    rows = leads([1.0, 2.0], [3.0] * 48)
    assert find_shift(*rows, RARE) == [0.0, 2.5]
    assert find_shift(*rows, [0, 1]) == []  # none is rare
    assert find_shift(*rows, [0] * 5 + [1] * 95) == []  # label 0 is given enough
    assert find_shift(*leads([1.0, 2.0], [3.0] * 47), RARE) == []  # too few rows
    assert find_shift(*leads([], [3.0] * 50), RARE) == []  # none of the label
    assert find_shift(*leads([-1.0, -2.0], [4.0, 6.0] * 24), RARE) == []  # all are right


def test_two_rare_labels_are_shifted_in_turn() -> None:
    logits = [[4.0, 0, 0]] * 50 + [[2.0, 1, 0]] * 2 + [[2.0, 0, 1]] * 3
    labels = [0] * 50 + [1] * 2 + [2] * 3
    shift = np.array(find_shift(logits, labels, labels))
    assert ((np.array(logits) + shift).argmax(1) == labels).all() and shift[0] == 0


def test_an_answer_is_the_likeliest_label_unless_it_is_rejected() -> None:
    probabilities = ONE.probabilities(np.array([[0.0, math.log(3)], [1e4, 0.0]]))
    assert probabilities.tolist() == [[pytest.approx(0.25), pytest.approx(0.75)], [1, 0]]
    row = probabilities[0].tolist()
    assert ONE.answer(["a", "b"], row, None, 0.7) == {"label": "b"}
    assert ONE.answer(["a", "b"], row, None, 0.8) == {"label": None}
