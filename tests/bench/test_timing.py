"""Turns, ratios and peaks; never how long something takes here."""

import pytest
import torch

from skip_exp.bench import timing
from skip_exp.bench.tables import Reach
from skip_exp.bench.timing import (
    Times,
    compare,
    job,
    one_by_one,
    peak_memory,
    reported,
    side_by_side,
)
from skip_exp.errors import SkipError
from skip_exp.machine.timing import alone


def test_ratios_are_taken_pair_by_pair() -> None:
    times = Times([[3.0] * 4, [1.0, 1.0, 2.0, 1.0]], contended=False)
    assert times.median(1) == 1.0
    assert times.ratio(0, 1) == (3.0, 0.5625)
    assert Times([[3.0], [2.0]], False).ratio(0, 1) == (1.5, 0.0)


def test_the_tail_is_the_99th_percentile() -> None:
    times = Times([[float(i) for i in range(101)]], contended=False)
    assert (times.median(0), times.tail(0)) == (50.0, 99.0)


def test_rows_of_times_costs_and_rates() -> None:
    times = Times([[0.5] * 3, [2.0] * 3], contended=False)
    row = compare("a", "b", times, unit="ms", reach=Reach(low=4.0))
    assert (row.name, row.setting, row.unit) == ("a", "b", "ms")
    assert (row.ours, row.theirs, row.ratio, row.spread) == (500.0, 2000.0, 4.0, 0.0)
    assert row.met is True
    row = compare("a", "b", times, cost=True, of=10)
    assert (row.ours, row.theirs, row.ratio, row.unit) == (0.05, 0.2, 0.25, "s")
    row = compare("a", "b", times, ours=1, theirs=0, unit="texts/s", of=10)
    assert (row.ours, row.theirs, row.ratio) == (5.0, 20.0, 0.25)
    row = compare("a", "b", times, theirs=None, reach=Reach(high=0.4, of="ours"))
    assert (row.ours, row.theirs, row.ratio, row.met) == (0.5, None, None, False)
    assert compare("a", "b", Times(times.seconds, contended=True)).contended


def test_a_job_that_fails_is_an_error() -> None:
    with pytest.raises(SkipError, match=r"python -m skip_exp --none: exit code 2"):
        job(["--none"])


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 3), (10.0, 5), (1e9, 8)])
def test_the_warm_up_tells_how_many_rounds_fit(
    budget: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def interleave(calls: object, *, repeats: int, **_: object) -> list[list[float]]:
        asked.append(repeats)
        return [[1.0] * repeats, [1.0] * repeats]

    monkeypatch.setattr(timing, "interleave", interleave)
    times = side_by_side([print, print], seconds=budget, least=3, most=8)
    assert asked == [1, rounds]
    assert [len(seconds) for seconds in times.seconds] == [rounds, rounds]


def test_what_calls_report_counts_and_the_first_round_does_not() -> None:
    seen = iter([100.0, 200.0, 1.0, 2.0, 3.0, 4.0])
    times = reported([lambda: next(seen), lambda: next(seen)], repeats=2)
    assert times.seconds == [[1.0, 3.0], [2.0, 4.0]]


@pytest.mark.parametrize("inference", [True, False])
def test_gradients_where_they_are_asked_for(inference: bool) -> None:
    enabled, _ = alone(torch.is_inference_mode_enabled, inference=inference)
    assert enabled is inference


def test_commands_that_take_the_lock_can_be_timed() -> None:
    inner, _ = alone(lambda: alone(lambda: "ran")[0], lock=False)
    assert inner == "ran"


def test_the_peak_is_what_is_held_at_once() -> None:
    def call() -> None:
        for _ in range(3):
            (torch.zeros(10_000_000) + 1).sum()  # 40 MB twice, given back each time

    peak = peak_memory(call)
    if timing.best_device() == "cpu":
        assert 60 < peak < 110


@pytest.mark.parametrize(("budget", "answered"), [(0.0, [0, 0, 1]), (1e9, [0, 0, 1, 2, 2])])
def test_one_by_one_takes_turns_of_blocks_and_lets_each_settle(
    budget: float, answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "BLOCK", 2)
    monkeypatch.setattr(timing, "SETTLE", 0.0)  # one call
    seen: list[tuple[str, int]] = []
    calls = [lambda one, name=name: seen.append((name, one)) for name in "ab"]
    times = one_by_one(calls, [0, 1, 2], seconds=budget)
    assert [len(seconds) for seconds in times.seconds] == [len(set(answered))] * 2
    assert [name for name, _ in seen] == list("aaabbbaabb")[: 2 * len(answered)]
    assert [[one for name, one in seen if name == call] for call in "ab"] == [answered] * 2
