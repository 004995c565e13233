"""Scores, errors and the choice, on numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from skip_exp.outcomes.scores import DRAWS, interval, resample, score
from skip_exp.within.choose import (
    Candidate,
    Cut,
    Split,
    choose,
    judge,
    limit_loss,
    limit_share,
)

EXPECTED = {
    "accuracy": accuracy_score,
    "f1": f1_score,
    "f1_macro": partial(f1_score, average="macro"),
    "matthews": matthews_corrcoef,
}


@pytest.mark.parametrize("metric", EXPECTED)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("is_constant", [False, True])
def test_scores_are_scikit_learns(metric: str, classes: int, is_constant: bool) -> None:
    if metric == "f1" and classes > 2:
        return
    generator = np.random.default_rng(1)
    true = generator.integers(0, 2, 40)  # with four classes, two are without rows
    predicted = np.zeros(40, int) if is_constant else generator.integers(0, classes - 1, 40)
    expected = EXPECTED[metric](true, predicted)
    assert score(metric, predicted, true, classes) == pytest.approx(expected)
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
    np.testing.assert_allclose(one + other, 1)


def make_slice(rows: int, metric: str = "accuracy") -> Split:
    return Split([], np.zeros(rows, int), metric, 2)


def test_no_changed_answer_limits_the_loss_as_the_binomial_does() -> None:
    """0.9 ** n of slices without an answer lost: at a loss of 0.1 ** (1 / n) it is one in ten."""
    for rows in (75, 80, 500):
        right = np.zeros(rows, int)
        nothing = 1 - 0.1 ** (1 / rows)
        assert limit_loss(right, right, make_slice(rows)) == pytest.approx(nothing)
        assert limit_share(0, rows) == pytest.approx(nothing)
    assert limit_share(80, 80) == 1.0


def test_a_limit_joins_those_of_both_shares() -> None:
    uncut, cut = np.zeros(10, int), np.zeros(10, int)
    cut[0] = 1  # one lost: 0.9 = P(more than one of ten) at 0.3368
    assert limit_loss(uncut, cut, make_slice(10)) == pytest.approx(0.3368, abs=1e-4)
    uncut[1] = 1  # one gained: at least 1 - 0.9 ** (1 / 10) = 0.0105
    expected = np.hypot(0.3368 - 0.1, 0.1 - 0.0105)
    assert limit_loss(uncut, cut, make_slice(10)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("metric", ["f1_macro", "matthews"])
def test_a_rare_row_is_worth_more_than_one_of_all(metric: str) -> None:
    true = np.array([1] * 4 + [0] * 36)
    cut = true.copy()
    cut[0] = 0
    as_share = limit_loss(true, cut, Split([], true, "accuracy", 2))
    limit = limit_loss(true, cut, Split([], true, metric, 2))
    assert limit > 2 * as_share
    nothing = limit_loss(true, true, Split([], true, metric, 2))
    assert nothing == pytest.approx(1 - 0.1 ** (1 / 40))


def test_nine_of_ten_slices_keep_their_limit() -> None:
    generator = np.random.default_rng(0)
    slices = 600
    for rows, lost, gained in ((75, 0.03, 0.0), (100, 0.03, 0.0), (300, 0.04, 0.03)):
        kept = 0
        for _ in range(slices):
            chance = generator.random(rows)
            cut = (chance < lost).astype(int)
            uncut = (chance > 1 - gained).astype(int)
            kept += limit_loss(uncut, cut, make_slice(rows)) >= lost - gained
        assert kept / slices > 0.9 - 2 * np.sqrt(0.9 * 0.1 / slices)


def test_another_form_of_the_uncut_model_has_its_loss_as_limit() -> None:
    uncut, cut = np.zeros(10, int), np.array([1, 1, *[0] * 8])
    models = [(Cut(ratio), "int8") for ratio in (0.0, 0.0, 0.5, 0.9)]
    candidates = judge(models, [uncut, cut, uncut, cut], make_slice(10))
    assert [candidate.select for candidate in candidates] == [1, 0.8, 1, 0.8]
    limits = [candidate.limit for candidate in candidates]
    assert limits == pytest.approx([0, 0.2, 1 - 0.1**0.1, 0.4496], abs=1e-4)


def test_a_candidate_must_stay_within_the_bound_with_its_limit() -> None:
    uncut = Candidate(Cut(0.0), "fp32", 1.0, 0.0, 100.0)
    rounded = Candidate(Cut(0.0), "int8", 0.9, 0.1, 200.0)
    middle = Candidate(Cut(0.5), "int8", 1.0, 0.15, 500.0)
    cut = Candidate(Cut(0.9), "int8", 0.8, 0.4, 1000.0)
    candidates = [uncut, rounded, middle, cut]
    for bound, expected in ((0.05, uncut), (0.14, rounded), (0.15, middle), (0.4, cut)):
        assert choose(candidates, bound) is expected
    assert choose([uncut, rounded], 0.1) is rounded


def test_of_about_as_fast_ones_the_best_is_chosen() -> None:
    one = Candidate(Cut(0.7), "fp32", 0.9, 0.0, 100.0)
    near, faster = (Candidate(Cut(0.9), "int8", 0.8, 0.0, speed) for speed in (104.0, 110.0))
    assert choose([one, near], 0.2) is one
    assert choose([one, faster], 0.2) is faster


def test_a_candidate_is_named_by_its_cut_and_form() -> None:
    assert Candidate(Cut(0.0), "int8", 1.0, 0.0, 1.0).name == "uncut, int8"
    assert Candidate(Cut(0.9, 3), "bf16", 1.0, 0.0, 1.0).name == "90 % cut, 3 layers, bf16"
