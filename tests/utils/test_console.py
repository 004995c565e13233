"""Importing libraries that take seconds."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skip_exp.utils import console

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


def test_what_came_since_may_go(module: Path) -> None:
    module.write_text("VALUE = 3\n")
    first = console.import_slow(NAME)
    gc.unfreeze()
    assert console.import_slow(NAME) is first
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
