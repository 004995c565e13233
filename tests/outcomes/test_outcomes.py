"""One label or many per text: how they are read, split, trained, calibrated and scored."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from sklearn.metrics import average_precision_score, f1_score

from skip_exp.data.batches import UNLABELLED, without_label
from skip_exp.data.rows import get_labels, list_labels
from skip_exp.data.sources import score_majority
from skip_exp.data.splits import choose_slice, draw_stratified
from skip_exp.errors import ConfigError, DataError
from skip_exp.outcomes.many_labels import ManyLabels
from skip_exp.outcomes.one_label import OneLabel
from skip_exp.outcomes.registry import fit_temperature
from tests.data.conftest import build, load, spec, table
from tests.helpers.given import describe

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


@pytest.mark.parametrize(
    ("counts", "main"),
    [
        ([19, 1], "f1_macro"),
        ([9, 1], "accuracy"),  # a tenth
        ([95] * 10 + [50], "accuracy"),  # more than half an even share
        ([100] * 10 + [40], "f1_macro"),
        ([], "accuracy"),  # no rows are known yet
    ],
)
def test_f1_macro_comes_first_where_a_class_is_rare(counts: list[int], main: str) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    metrics = ONE.choose_metrics(labels)
    assert metrics[0] == main and {*metrics} == {"accuracy", "f1_macro"}


def test_an_answer_is_the_likeliest_label_unless_it_is_rejected() -> None:
    probabilities = ONE.probabilities(np.array([[0.0, math.log(3)], [1e4, 0.0]]))
    assert probabilities.tolist() == [[pytest.approx(0.25), pytest.approx(0.75)], [1, 0]]
    row = probabilities[0].tolist()
    assert ONE.answer(["a", "b"], row, None, 0.7) == {"label": "b"}
    assert ONE.answer(["a", "b"], row, None, 0.8) == {"label": None}


MANY = ManyLabels()
NAMES = ["price", "service", "staff"]
METRICS = ["f1_micro", "f1_macro", "average_precision"]


def task(**changes: Any) -> Any:
    base = {"labels": NAMES, "kind": "many_labels", "metrics": METRICS}
    return spec(**base | changes)


@pytest.mark.parametrize(
    "cell",
    [
        *(["price", "staff"], ["STAFF", 0]),
        *("price;staff", "staff | price", "price, staff", "0;2", "['price', 'staff']"),
    ],
)
def test_a_cell_holds_a_list_or_joined_names(cell: Any) -> None:
    assert get_labels(build(table(s=["x"], label=[cell]), task())) == [(1, 0, 1)]


@pytest.mark.parametrize("cell", [[], "", None, " ", "[]"])
def test_a_row_may_have_none_of_the_labels(cell: Any) -> None:
    rows = build(table(s=["x", "y"], label=[cell, "price"]), task())
    assert get_labels(rows) == [(0, 0, 0), (1, 0, 0)] and list_labels(rows) == [0]


def test_a_name_may_hold_what_joins_others() -> None:
    names = task(labels=["price, value", "service"])
    cells = ["price, value;service", "price, value", "service"]
    rows = build(table(s=[*"xyz"], label=cells), names)
    assert get_labels(rows) == [(1, 1), (1, 0), (0, 1)]


def test_each_label_may_have_a_column() -> None:
    cells = {"price": [1, "0", True], "service": [0.0, "false", False], "staff": ["1", "true", 0]}
    rows = build(table(s=[*"xyz"], **cells), task(label=""))
    assert get_labels(rows) == [(1, 0, 1), (0, 0, 1), (1, 0, 0)]
    with pytest.raises(DataError, match=r"column 'staff' is 2, not 0 or 1"):
        build(table(s=["x"], price=[1], service=[0], staff=[2]), task(label=""))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"label 'food' in column 'label'; labels: 0 to 2 or"):
        build(table(s=["x"], label=["price;food"]), task())
    with pytest.raises(DataError, match=r"task.kind=many_labels"):
        build(table(s=["x"], label=[["no"]]), spec())
    for changes in ({"metrics": ["accuracy"]}, {"label": "", "kind": "one_label"}):
        with pytest.raises(ConfigError):
            task(**changes)


def draw(rows: int, shares: list[float]) -> list[tuple[int, ...]]:
    drawn = np.random.default_rng(0).random((rows, len(shares))) < shares
    return [tuple(map(int, row)) for row in drawn]


def test_splits_have_every_label_at_its_share() -> None:
    labels = draw(1000, [0.5, 0.2, 0.02])
    for held, part in (
        (draw_stratified(labels, range(1000), seed=1), 0.2),
        (choose_slice(labels, range(1000)), 0.1),
    ):
        counts = np.array(labels)[held].sum(0)
        wanted = part * np.array(labels).sum(0)
        assert (counts >= np.minimum(1, wanted)).all()
        assert (abs(counts - wanted) <= np.maximum(4, 0.25 * wanted)).all()
        bare = [row for row in held if not any(labels[row])]
        assert len(bare) == pytest.approx(part * sum(not any(x) for x in labels), rel=0.3)
    held = draw_stratified([(1, 0), (1, 1), (1, 0), (1, 0)] * 2, [*"abcdefgd"], seed=1, part=0.5)
    assert (3 in held) == (7 in held)  # equal texts stay together


def test_a_task_is_found_in_lists_columns_and_joined_names(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    lists = [[NAMES[i % 3], NAMES[(i + i % 2) % 3]] for i in range(40)]

    def labelled(labels: list[Any]) -> list[dict[str, Any]]:
        return [{"text": x, "label": y} for x, y in zip(texts, labels, strict=True)]

    found = describe(labelled(lists), tmp_path)
    assert found["kind"] == "many_labels" and found["labels"] == NAMES
    assert found["metrics"] == METRICS
    rows = [
        {"text": t, **{n: int(n in x) for n in NAMES}} for t, x in zip(texts, lists, strict=True)
    ]
    columns = describe(rows, tmp_path, label=["price", "service", "staff"])
    assert columns | {"files": {}} == found | {"files": {}, "label": ""}
    joined, asked = [";".join(x) for x in lists], ["task.kind=many_labels"]
    by_name = describe(labelled(joined), tmp_path, overrides=asked)
    written = describe(labelled([*map(str, lists)]), tmp_path, overrides=asked)
    assert by_name["labels"] == written["labels"] == NAMES
    tasks = (found, columns, by_name, written)
    every = [get_labels(load(spec(**each)).train) for each in tasks]
    assert every[0] == every[1] == every[2] == every[3]
    with pytest.raises(DataError, match="are not the classes"):
        asked = ["task.labels=[price,service]"]
        describe(rows, tmp_path, label=["price", "staff"], overrides=asked)


def test_a_data_set_names_the_labels_of_its_lists(tmp_path: Path) -> None:
    lists = [[i % 3] if i % 2 else [0, 2] for i in range(40)]
    features = Features(text=Value("string"), label=Sequence(ClassLabel(names=NAMES[::-1])))
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(40)], "label": lists}, features)
    found = describe(data, tmp_path)
    assert found["kind"] == "many_labels" and found["labels"] == NAMES[::-1]
    rows = load(spec(**found))
    every = [*rows.train, *rows.select, *rows.validation]
    assert sum(row["label"] == (1, 0, 1) for row in every) == 20


LOGITS = torch.tensor([[2.0, -1.0], [0.5, 3.0], [-2.0, 0.0]])
LABELS = torch.tensor([[1, 0], [0, 1], [0, 1]])


def test_loss_is_that_of_each_label() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS, LABELS.float(), reduction="sum")
    torch.testing.assert_close(MANY.loss(LOGITS, LABELS), expected)
    row = without_label({"label": (0, 1)})
    unlabelled = torch.tensor([row["label"], (1, 0)])
    assert unlabelled[0].tolist() == [UNLABELLED] * 2
    torch.testing.assert_close(
        MANY.loss(LOGITS[:2], unlabelled), MANY.loss(LOGITS[1:2], unlabelled[1:])
    )


def test_distillation_is_least_at_the_teachers_logits() -> None:
    student = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(MANY.soft_loss(student, LOGITS), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    nearer = MANY.soft_loss(LOGITS + 0.1, LOGITS)
    assert MANY.soft_loss(LOGITS, LOGITS) < nearer < MANY.soft_loss(-LOGITS, LOGITS)


def test_the_bound_has_the_highest_f1_and_scores_are_scikit_learns() -> None:
    labels = np.array(draw(200, [0.5, 0.2, 0.05]))
    logits = 2 * labels - 3 + np.random.default_rng(0).normal(size=labels.shape)
    bound = MANY.find_bound(logits, labels)
    found = MANY.score(METRICS, logits, labels)
    for average in ("micro", "macro"):
        expected = f1_score(labels, logits > bound, average=average)
        assert found[f"f1_{average}"] == pytest.approx(expected)
    precision = average_precision_score(labels, logits, average="macro")
    assert found["average_precision"] == pytest.approx(precision)
    others = [f1_score(labels, logits > x, average="micro") for x in logits.ravel()[::20]]
    assert found["f1_micro"] >= max(others)
    at_zero = f1_score(labels, logits > 0, average="micro")
    assert MANY.score(METRICS, logits, labels, 0.0)["f1_micro"] == pytest.approx(at_zero)
    assert MANY.find_bound(logits[:49], labels[:49]) == 0  # too few rows
    unseen = np.column_stack([labels, np.zeros(200, int)])
    by_three = MANY.score(METRICS, np.column_stack([logits, logits[:, 0]]), unseen)
    assert by_three["average_precision"] == pytest.approx(precision)  # of labels that rows have


def test_a_probability_may_round_to_one() -> None:
    logits, labels = np.array([[np.inf, -1.0], [-2.0, 3.0]]), np.array([[1, 0], [0, 1]])
    assert MANY.score(METRICS, logits, labels, 0.0) == dict.fromkeys(METRICS, 1.0)


def test_the_majority_is_the_most_frequent_label() -> None:
    found = score_majority(task(labels=["a", "b"]), [(1, 0), (1, 1), (0, 0), (1, 0)])
    assert found == pytest.approx(
        {"f1_micro": 6 / 8, "f1_macro": 6 / 14, "average_precision": (3 / 4 + 1 / 4) / 2}
    )


def test_the_temperature_of_many_labels_makes_claims_as_frequent_as_they_are_true() -> None:
    logits = torch.full((60, 2), math.log(9))  # each label is claimed with a probability of 0.9
    labels = torch.tensor([[1, 1]] * 45 + [[0, 0]] * 15)
    temperature = fit_temperature(MANY, logits, labels)
    wanted = 45.5 / 61
    assert temperature == pytest.approx(math.log(9) / math.log(wanted / (1 - wanted)), abs=1e-3)
    error = MANY.calibration_error(logits.numpy(), labels.numpy())
    assert error == pytest.approx(0.9 - 0.75, abs=1e-6)
