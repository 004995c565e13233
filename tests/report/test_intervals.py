import numpy as np
import pandas as pd
import pytest

from skip_exp.report import intervals
from skip_exp.report.intervals import Difference, correct, resample


def difference(**by_task):
    """Of the differences of each task, one per seed."""
    pairs = [(value, task) for task, values in by_task.items() for value in values]
    table = pd.DataFrame(pairs, columns=["value", "task"]).astype({"value": float})
    return intervals.difference(table["value"], table["task"])


def test_mean_and_interval_of_one_task_are_of_its_seeds():
    found = difference(sst2=[0.01, 0.02, 0.03, 0.04, 0.05])
    assert (found.n, found.mean) == (5, pytest.approx(0.03))
    assert found.tasks == {"sst2": pytest.approx(0.03)}
    low, high = found.interval
    # Five draws of 5: the deviation of their mean is sqrt(0.0002 / 5) = 0.0063.
    assert low == pytest.approx(0.03 - 1.96 * 0.0063, abs=0.001)
    assert high == pytest.approx(0.03 + 1.96 * 0.0063, abs=0.001)
    assert found == difference(sst2=[0.01, 0.02, 0.03, 0.04, 0.05])  # the random state is fixed
    assert difference() is None


def test_verdicts():
    assert difference(sst2=[0.01, 0.02, 0.03, 0.04, 0.05]).verdict == "better"
    assert difference(sst2=[-0.01, -0.02, -0.03, -0.04, -0.05]).verdict == "worse"
    assert difference(sst2=[-0.02, -0.01, 0, 0.01, 0.03]).verdict == "tie"
    few = difference(sst2=[-0.01, -0.01], cola=[-0.01, -0.01])
    assert few.verdict == "none: under 5 pairs" and (few.interval, few.p) == (None, None)


def test_equal_differences_have_an_interval_of_no_width():
    same = difference(sst2=[0.25] * 3, cola=[0.25] * 3)
    assert same == Difference(6, 0.25, {"cola": 0.25, "sst2": 0.25}, (0.25, 0.25), 2 / 10_000)
    nothing = difference(sst2=[0.0] * 3, cola=[0.1, 0.1 - 0.3, 0.1])  # 0 up to rounding
    assert nothing.mean == pytest.approx(0) and nothing.verdict == "tie"
    assert difference(sst2=[0.0] * 6).p == 1


def test_where_tasks_differ_seeds_count_for_nothing():
    """Of 27 draws of three tasks one is the worst three times: 1 / 27 is more than 2.5 %."""
    found = difference(a=[0.0] * 3, b=[0.01] * 3, c=[0.02] * 3)
    assert found.interval == pytest.approx((0.0, 0.02))
    assert found.p == pytest.approx(2 / 27, abs=0.01) and found.verdict == "tie"
    more = difference(a=[0.0] * 30, b=[0.01] * 30, c=[0.02] * 30)
    assert more.interval == pytest.approx((0.0, 0.02))
    # The same nine differences as nine seeds of one task: nobody doubts them.
    alone = difference(a=[0.0] * 3 + [0.01] * 3 + [0.02] * 3)
    assert alone.verdict == "better" and alone.interval[0] > 0.003


def test_tasks_count_alike_however_many_pairs_they_have():
    found = difference(a=[0.04] * 4, b=[0.0])
    assert (found.n, found.mean) == (5, pytest.approx(0.02))


def test_both_stages_are_drawn():
    """Two tasks, each of two values: var = (between / 2) + (within / 4), all known by hand."""
    found = resample([np.array([0.0, 2.0]), np.array([4.0, 6.0])], 40_000)
    between = 4.0  # of 1 and 5
    within = 1.0 / 2  # of the mean of two draws of 0 and 2, or of 4 and 6
    assert found.mean() == pytest.approx(3, abs=0.04)
    assert found.var() == pytest.approx((between + within) / 2, rel=0.03)


def test_false_discoveries_by_hand():
    """Of four: the smallest p times 4 / 1, the next times 4 / 2, ...; never above a later one."""
    asked = [Difference(9, 0.1, {}, (0, 1), p) for p in (0.01, 0.04, 0.03, 0.5)]
    found = correct([asked[0], None, Difference(2, 0.1, {}), *asked[1:]])
    assert found[1] is None and found[2].corrected is None  # these two asked nothing
    corrected = [found[i].corrected for i in (0, 3, 4, 5)]
    assert corrected == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert [found[i].verdict for i in (0, 3, 4, 5)] == ["better", "tie", "tie", "tie"]
    assert asked[2].verdict == "better"  # alone, it would be
    assert correct([]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "covered"),
    [(3, (0.93, 0.83, 0.74)), (4, (0.95, 0.87, 0.80)), (7, (0.97, 0.92, 0.87))],
)
def test_how_often_the_interval_holds_the_truth(tasks, covered):
    """The table in docs/design.md: three seeds; tasks alike, as seeds, ten times as different."""
    rng = np.random.default_rng(1)
    for (between, within), expected in zip([(0, 1), (1, 1), (1, 0.1)], covered, strict=True):
        held = 0
        for seed in range(2000):
            effects = between * rng.standard_normal((tasks, 1))
            values = effects + within * rng.standard_normal((tasks, 3))
            low, high = np.quantile(resample(list(values), 999, seed), [0.025, 0.975])
            held += low <= 0 <= high
        assert held / 2000 == pytest.approx(expected, abs=0.025)  # 2.5 standard errors
