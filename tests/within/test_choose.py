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
    find_references,
    judge,
    pick_shown,
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


def test_an_error_is_that_of_a_row_at_least_and_none_of_a_rounded_model() -> None:
    uncut, cut = np.zeros(10, int), np.array([1, 1, *[0] * 8])
    rows = Split([["text"]] * 10, uncut, "accuracy", 2)
    models = [(Cut(ratio), "int8") for ratio in (0.0, 0.0, 0.5, 0.9)]
    found = judge(models, [uncut, cut, uncut, cut], rows)
    assert [each.select for each in found] == [1, 0.8, 1, 0.8]
    assert [each.error for each in found[:3]] == [0, 0, 0.1]
    assert found[3].error == pytest.approx(np.sqrt(0.2 * 0.8 / 10), rel=0.1)


def test_a_candidate_must_stay_within_the_bound_with_its_error() -> None:
    uncut = Candidate(Cut(0.0), "fp32", 1.0, 0.0, 100.0)
    rounded = Candidate(Cut(0.0), "int8", 0.9, 0.0, 200.0)
    middle = Candidate(Cut(0.5), "int8", 1.0, 0.1, 500.0)
    cut = Candidate(Cut(0.9), "int8", 0.8, 0.13, 1000.0)
    candidates = [uncut, rounded, middle, cut]
    for bound, expected in ((0.05, uncut), (0.14, rounded), (0.15, middle), (0.4, cut)):
        assert choose(candidates, 1 - bound) is expected
    assert choose([uncut, rounded], 0.9) is rounded


def test_of_about_as_fast_ones_the_best_is_chosen() -> None:
    one = Candidate(Cut(0.7), "fp32", 0.9, 0.0, 100.0)
    near, faster = (Candidate(Cut(0.9), "int8", 0.8, 0.0, speed) for speed in (104.0, 110.0))
    assert choose([one, near], 0.8) is one
    assert choose([one, faster], 0.8) is faster


def test_a_candidate_is_named_by_its_cut_and_form() -> None:
    assert Candidate(Cut(0.0), "int8", 1.0, 0.0, 1.0).name == "uncut, int8"
    assert Candidate(Cut(0.9, 3), "bf16", 1.0, 0.0, 1.0).name == "90 % cut, 3 layers, bf16"


def test_the_table_has_every_cut_that_was_trained() -> None:
    plain = Candidate(Cut(0.0), "fp32", 1.0, 0.0, 100.0)
    rounded = Candidate(Cut(0.0), "int8", 1.0, 0.0, 300.0)
    cuts = [Candidate(Cut(0.9, n), "int8", 0.9, 0.0, 100.0 * n) for n in (2, 5, 6, 7)]
    slow = Candidate(Cut(0.9, 7), "fp32", 0.9, 0.0, 250.0)
    candidates = [plain, rounded, *cuts, slow]
    ranked = [plain, cuts[0], rounded, *cuts[1:]]
    for chosen in (plain, rounded, *cuts):
        assert pick_shown(candidates, chosen) == ranked
    assert pick_shown(candidates, slow) == [plain, cuts[0], slow, rounded, *cuts[1:]]
    assert find_references(candidates) == [plain, rounded]
    assert find_references([plain, *cuts]) == [plain]
