"""What a user sees of a running command: imports that take seconds, bars, durations."""

import gc
import io
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skip_exp.utils import bars, console

NAME = "seen_by_a_test"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that can be imported, empty yet."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)
    gc.unfreeze()


def test_no_garbage_is_looked_for_meanwhile_or_in_what_came(module: Path) -> None:
    module.write_text("import gc\nENABLED = gc.isenabled()\nKEPT = [{} for _ in range(1000)]\n")
    gc.unfreeze()
    assert console.import_slow(NAME).ENABLED is False
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    gc.unfreeze()
    console.import_slow(NAME)  # what came since may be garbage
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_a_module_that_fails_leaves_all_as_it_was(module: Path, enabled: bool) -> None:
    module.write_text("raise ImportError('no')\n")
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ImportError, match="no"):
            console.import_slow(NAME)
        assert (gc.isenabled(), gc.get_freeze_count()) == (enabled, 0)
    finally:
        gc.enable()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, screen: Any, wanted: bool = True) -> str:
    """What counting three items writes to standard output."""
    monkeypatch.setattr(sys, "stdout", screen)
    with bars.allow_bars(wanted):
        assert list(bars.Counted("abc", "letters")) == ["a", "b", "c"]
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
