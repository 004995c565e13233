"""Bars appear on a terminal, after five seconds, and leave nothing behind."""

import io
import multiprocessing
import sys
from typing import Any

import pytest

from skip_exp.utils import bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, screen: Any, wanted: bool = True) -> str:
    """What counting three items writes to standard output."""
    monkeypatch.setattr(sys, "stdout", screen)
    with bars.allowed(wanted):
        assert list(bars.counted("abc", "letters")) == ["a", "b", "c"]
    return str(screen.getvalue())


def test_a_bar_is_for_what_takes_long_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, Terminal()) == ""  # done within five seconds
    monkeypatch.setattr(bars, "AFTER", 0)
    shown = drawn(monkeypatch, Terminal())
    assert "letters" in shown and "of 3" in shown and "\n" not in shown
    assert shown.rpartition("\r")[0].endswith(" ")  # wiped out at the end
    assert drawn(monkeypatch, Terminal(), wanted=False) == ""
    assert drawn(monkeypatch, io.StringIO()) == ""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "loky")
    assert drawn(monkeypatch, Terminal()) == ""  # several jobs share that terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (19.1, "20 s"), (89.5, "90 s"), (100, "2 min"), (5400, "1.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert bars.duration(seconds) == text
