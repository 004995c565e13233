"""Turns, ratios and peaks; never how long something takes here."""

import pytest
import torch

from skip_exp.bench import timing
from skip_exp.bench.timing import Times, peak_memory, reported, side_by_side
from skip_exp.machine.timing import alone


def test_ratios_are_taken_pair_by_pair() -> None:
    times = Times([[3.0] * 4, [1.0, 1.0, 2.0, 1.0]], contended=False)
    assert times.median(1) == 1.0
    assert times.ratio(0, 1) == (3.0, 0.5625)
    assert Times([[3.0], [2.0]], False).ratio(0, 1) == (1.5, 0.0)


@pytest.mark.parametrize(("budget", "rounds"), [(0.0, 3), (10.0, 5), (1e9, 8)])
def test_the_warm_up_tells_how_many_rounds_fit(
    budget: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def interleave(calls: object, *, repeats: int, **_: object) -> list[list[float]]:
        asked.append(repeats)
        return [[1.0] * repeats, [1.0] * repeats]

    monkeypatch.setattr(timing, "interleave", interleave)
    found = side_by_side([print, print], seconds=budget, least=3, most=8)
    assert asked == [1, rounds]
    assert [len(own) for own in found.seconds] == [rounds, rounds]


def test_what_calls_report_counts_and_the_first_round_does_not() -> None:
    seen = iter([100.0, 200.0, 1.0, 2.0, 3.0, 4.0])
    times = reported([lambda: next(seen), lambda: next(seen)], repeats=2)
    assert times.seconds == [[1.0, 3.0], [2.0, 4.0]]


@pytest.mark.parametrize("inference", [True, False])
def test_gradients_where_they_are_asked_for(inference: bool) -> None:
    found, _ = alone(torch.is_inference_mode_enabled, inference=inference)
    assert found is inference


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
