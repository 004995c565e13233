"""Models are timed in turns, on the same texts."""

import pytest
import torch

from skip_exp.within import measure

TEXTS = [[str(number)] for number in range(10)]


def test_models_take_turns_and_each_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "TURNS", 3)
    seen: list[list[str]] = []
    calls = [lambda texts: seen.append([text for (text,) in texts])] * 2
    (one, two), _ = measure.time_in_turns(calls, TEXTS, 4, 2)
    assert seen[:6] == [["0"], ["0", "1"], ["2", "3"]] * 2
    assert seen[6:9] == [["4"], ["4", "5"], ["6", "7"]]
    assert seen[12:] == [["8"], ["8", "9"]] * 2
    assert len(one) == len(two) == 5 and min(one) > 0  # the first of each turn is untimed
    monkeypatch.setattr(measure, "SECONDS", 0.05)
    (more,), _ = measure.time_in_turns(calls[:1], TEXTS, 4, 1)
    assert len(more) > 3 * 4  # while there is time, the texts come again


def test_one_text_is_timed_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    threads: list[list[int]] = []

    def answer(texts: list[list[str]]) -> None:
        threads.append([len(texts), torch.get_num_threads()])

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (speed,), _ = measure.time_speeds([answer], [answer], TEXTS)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [1, 1] in threads and [10, 2] in threads and [10, 1] not in threads
    assert 0 < speed.ms <= speed.p95
    assert speed.rate("one") == 1000 / speed.ms and speed.rate("batches") == speed.texts
