"""Scores, thresholds and the choice, on numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from skip_exp.config.names import METRICS
from skip_exp.config.task import TaskConfig
from skip_exp.data.metrics import build_metrics
from skip_exp.data.scores import DRAWS, interval, resample, score
from skip_exp.within.choose import (
    Answers,
    Model,
    add_errors,
    choose,
    choose_threshold,
    estimate_speed,
    join,
    list_candidates,
    list_thresholds,
    make_candidate,
)
from skip_exp.within.scores import Split, standard_error

TRUE = np.zeros(10, int)
CONFIDENCE = np.arange(0.50, 0.99, 0.05)  # 0.50, 0.55, ..., 0.95


def accuracy(predicted: np.ndarray) -> float:
    return score("accuracy", predicted, TRUE, 2)


def wrong_at(*rows: int) -> np.ndarray:
    predicted = TRUE.copy()
    predicted[[*rows]] = 1
    return predicted


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("is_constant", [False, True])
def test_scores_are_those_of_the_jobs(metric: str, classes: int, is_constant: bool) -> None:
    if metric == "f1" and classes > 2:
        return
    generator = np.random.default_rng(1)
    true = generator.integers(0, 2, 40)  # with four classes, two are without rows
    predicted = np.zeros(40, int) if is_constant else generator.integers(0, classes - 1, 40)
    labels = [f"l{i}" for i in range(classes)]
    task = TaskConfig(name="t", text=["t"], label="l", labels=labels, metrics=[metric])
    expected = build_metrics(task)(torch.tensor(predicted), torch.tensor(true))[metric].item()
    assert score(metric, predicted, true, classes) == pytest.approx(expected, abs=1e-6)
    weights = generator.integers(0, 3, 40).astype(float)
    repeated = np.repeat(predicted, weights.astype(int)), np.repeat(true, weights.astype(int))
    weighted = score(metric, predicted, true, classes, weights)
    assert weighted == pytest.approx(score(metric, *repeated, classes))


def test_resampled_scores_spread_as_a_share_does() -> None:
    true, predicted = np.zeros(400, int), np.arange(400) % 4 // 3  # 75 % right
    one, same, other = resample("accuracy", [predicted, predicted, 1 - predicted], true, 2)
    assert one.shape == (DRAWS,)
    assert one.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.1)
    assert interval(one) == pytest.approx((0.75 - 0.0424, 0.75 + 0.0424), abs=0.01)
    assert not (one - same).any()  # paired
    assert standard_error(one - same, 400) == 1 / 400
    np.testing.assert_allclose(one + other, 1)


def test_a_cascade_of_three_by_hand() -> None:
    first = Answers(np.array([0, 0, 0, 0]), np.array([0.9, 0.6, 0.5, 0.8]))
    second = Answers(np.array([1, 1, 1, 1]), np.array([0.1, 0.7, 0.4, 0.1]))
    third = Answers(np.array([2, 2, 2, 2]), np.ones(4))
    answers, shares = join([first, second, third], [0.7, 0.5])
    assert answers.predicted.tolist() == [0, 1, 2, 0] and shares == [0.5, 0.25]
    assert answers.confidence.tolist() == [0.9, 0.7, 1.0, 0.8]  # of the member that answers
    assert first.predicted.tolist() == [0, 0, 0, 0]
    assert estimate_speed([100, 50, 25], shares) == pytest.approx(1 / (0.01 + 0.01 + 0.01))


def test_thresholds_lie_between_confidences() -> None:
    assert list_thresholds(np.array([0.5, 0.9, 0.5, 0.7]), 9) == pytest.approx([0.6, 0.8])
    assert len(list_thresholds(np.linspace(0, 1, 999), 20)) == 20
    assert list_thresholds(np.ones(3), 9) == []


def test_a_lucky_dip_does_not_choose() -> None:
    """The lower the threshold, the fewer of the least confident rows, the first ones, go on."""
    first, second = Answers(wrong_at(0, 1, 2, 3), CONFIDENCE), wrong_at(8)
    # 0.9 with three rows sent on, 1.0 with four to eight, 0.9 with nine or all.
    assert choose_threshold(first, second, accuracy, 0.9) == pytest.approx(0.625)
    assert choose_threshold(first, second, accuracy, 0.91) is None
    first, second = Answers(wrong_at(0, 6), CONFIDENCE), wrong_at(2)
    # 0.9 with one or two rows sent on, 0.8 with three to six, 0.9 from seven on.
    assert choose_threshold(first, second, accuracy, 0.9) == pytest.approx(0.825)


def model(ratio: float, form: str, speed: float, *wrong: int) -> Model:
    return Model(ratio, form, Answers(wrong_at(*wrong), CONFIDENCE), speed)


def test_the_fastest_within_the_bound_is_chosen() -> None:
    uncut, rounded = model(0.0, "fp32", 100.0), model(0.0, "int8", 200.0, 9)
    cut = model(0.9, "int8", 1000.0, 0, 1)
    slow_cut = model(0.9, "fp32", 500.0, 0, 1)
    models = [uncut, rounded, cut, slow_cut]

    def chosen(least: float) -> tuple[list[tuple[float, str]], tuple[float, ...]]:
        found = choose(list_candidates(models, accuracy, least), least)
        return [(each.ratio, each.form) for each in found.models], found.thresholds

    assert chosen(0.8) == ([(0.9, "int8")], ())
    # Row 0 alone, then all rows up to any threshold: 0.9 with the uncut model in 8 bits, but a
    # threshold that sends row 9 on, too, scores 0.9 as well.
    names, thresholds = chosen(0.9)
    assert names == [(0.9, "int8"), (0.0, "int8")] and thresholds == pytest.approx((0.525,))
    # 1.0: the rounded model is wrong at row 9, and is left out.
    names, thresholds = chosen(1.0)
    assert names == [(0.9, "int8"), (0.0, "fp32")] and thresholds == pytest.approx((0.575,))


def test_a_candidate_must_stay_within_the_bound_with_its_error() -> None:
    """Ten rows: one of them is an error of ten points at least; the other forms have none."""
    uncut, rounded = model(0.0, "fp32", 100.0), model(0.0, "int8", 200.0, 9)
    middle, cut = model(0.5, "int8", 500.0), model(0.9, "int8", 1000.0, 0, 1)
    single = [make_candidate([each], [], accuracy) for each in (uncut, rounded, middle, cut)]
    rows = Split([["text"]] * 10, TRUE, "accuracy", 2)
    found = add_errors(single, uncut, rows)
    assert [each.error for each in found[:3]] == [0, 0, 0.1]  # alike on all rows: that of one row
    assert found[3].error == pytest.approx(np.sqrt(0.2 * 0.8 / 10), rel=0.1)
    for bound, expected in ((0.05, uncut), (0.1, middle), (0.3, middle), (0.35, cut)):
        assert choose(found, 1 - bound).models == (expected,)


def test_a_middle_member_is_used_where_it_is_faster() -> None:
    """The last model is needed for row 0 alone, the middle one for rows 0 to 4."""
    fast = model(0.9, "fp32", 10000.0, 0, 1, 2, 3, 4)
    middle, last = model(0.5, "fp32", 500.0, 0), model(0.0, "fp32", 10.0)
    candidates = list_candidates([fast, middle, last], accuracy, 1.0)
    found = choose(candidates, 1.0)
    assert [each.ratio for each in found.models] == [0.9, 0.5, 0.0]
    assert found.sent_on == pytest.approx((0.5, 0.1))
    assert found.speed == pytest.approx(1 / (0.0001 + 0.5 / 500 + 0.1 / 10))
    assert max(len(each.models) for each in candidates if each is not found) == 2


def test_of_about_as_fast_ones_the_simplest_is_chosen() -> None:
    single = partial(make_candidate, thresholds=[], score=accuracy)
    one, other = single([model(0.7, "fp32", 100.0, 1)]), single([model(0.9, "int8", 104.0, 1, 2)])
    assert choose([one, other], 0.8) is one  # the better one of two
    assert choose([one, single([model(0.9, "int8", 110.0, 1, 2)])], 0.8).speed == 110.0
    pair = make_candidate([model(0.95, "fp32", 1e6), model(0.0, "fp32", 10.5)], [0.97], accuracy)
    assert choose([one, pair], 0.9) is one
