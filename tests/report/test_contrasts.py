import pytest

from skip_exp.report.contrasts import Difference, difference


def verdict(*values):
    return difference(values).verdict


def test_mean_difference_and_its_interval():
    found = difference([0.01, 0.02, 0.03, 0.04, 0.05])
    assert (found.n, found.mean) == (5, pytest.approx(0.03))
    low, high = found.interval
    assert 0.01 < low < 0.03 < high < 0.05
    assert found == difference([0.01, 0.02, 0.03, 0.04, 0.05])  # the random state is fixed
    assert difference([]) is None


def test_verdicts():
    assert verdict(0.01, 0.02, 0.03, 0.04, 0.05) == "better"
    assert verdict(-0.01, -0.02, -0.03, -0.04, -0.05) == "worse"
    assert verdict(-0.02, -0.01, 0, 0.01, 0.03) == "tie"
    assert verdict(-0.01, -0.01, -0.01, -0.01) == "none: under 5 pairs"
    assert difference([-0.01] * 4).interval is None


def test_equal_differences_have_an_interval_of_no_width():
    assert difference([0.25] * 6) == Difference(6, 0.25, (0.25, 0.25))
    assert verdict(*[0.0] * 6) == "tie"
    assert Difference(9, -0.1, (-0.2, 0.0)).verdict == "tie"
    assert Difference(9, 0.1, (0.0, 0.2)).verdict == "tie"
