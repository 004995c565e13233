"""Models are timed in turns, on fewer texts where they are slow."""

import pytest

from skip_exp.forms import timing


@pytest.mark.parametrize(("seconds", "count"), [(1e-9, 32), (1e9, 100)])
def test_slow_models_answer_fewer_texts(
    seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time for all turns, the least number of texts; with plenty, all of them."""
    monkeypatch.setattr(timing, "SECONDS", seconds)
    seen: list[int] = []
    speeds, _ = timing.time_in_turns([lambda texts: seen.append(len(texts))], [["a"]] * 100)
    turns = timing.FEWEST_TURNS if count == 32 else timing.MOST_TURNS
    assert seen == [32, 32, *[count] * (1 + turns)]
    assert len(speeds) == 1 and speeds[0].texts > 0
