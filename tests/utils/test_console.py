"""What a user sees of a running command; a call from Python changes nothing else."""

import gc
import io
import logging
import multiprocessing
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from skip_exp.config.schema import conf_dir
from skip_exp.utils import console

NAME = "seen_by_a_test"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that can be imported, empty yet."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)
    gc.unfreeze()


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


def log_all(log: logging.Logger) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        log.log(level, logging.getLevelName(level).lower())


def test_log_lines_are_shown_and_kept_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, file = logging.getLogger("skip_exp"), tmp_path / "job" / "it.log"
    with console.shown(file):
        log_all(log)
    log_all(log)  # of no interest any more
    assert capsys.readouterr().out == "info\nwarning\n"
    kept = file.read_text().splitlines()
    assert [line.split()[-1] for line in kept] == ["debug", "info", "warning"]
    assert not log.handlers and not log.level
    conf: Any = OmegaConf.load(conf_dir() / "config.yaml")
    assert conf.hydra.job_logging.formatters.simple.format == console.FORMAT


def test_who_has_set_up_logging_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("skip_exp")
    monkeypatch.setattr(log, "level", logging.WARNING)
    log.manager._clear_cache()
    try:
        with console.shown(tmp_path / "it.log"):
            log_all(log)
    finally:
        monkeypatch.undo()
        log.manager._clear_cache()
    assert not capsys.readouterr().out
    assert (tmp_path / "it.log").read_text().split()[-1] == "warning"


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with console.shown(tmp_path / "file" / "it.log"):
        log_all(logging.getLogger("skip_exp"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, screen: Any) -> str:
    """What counting three items writes to standard output."""
    monkeypatch.setattr(sys, "stdout", screen)
    assert list(console.bar(3, "letters", "abc")) == ["a", "b", "c"]
    return str(screen.getvalue())


def test_a_bar_is_for_what_takes_long_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, Terminal()) == ""  # done within five seconds
    monkeypatch.setattr(console, "AFTER", 0)
    shown = drawn(monkeypatch, Terminal())
    assert "letters" in shown and "of 3" in shown and "\n" not in shown
    assert shown.rpartition("\r")[0].endswith(" ")  # wiped out at the end
    assert drawn(monkeypatch, io.StringIO()) == ""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "loky")
    assert drawn(monkeypatch, Terminal()) == ""  # several jobs share that terminal


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (19.1, "20 s"), (89.5, "90 s"), (100, "2 min"), (5400, "1.5 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_random_states_and_determinism_are_the_callers() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    before = torch.are_deterministic_algorithms_enabled()
    L.seed_everything(3, verbose=False)
    expected = draws()
    L.seed_everything(3, verbose=False)
    with pytest.raises(KeyError), console.keep_state():
        L.seed_everything(5, verbose=False)
        torch.use_deterministic_algorithms(not before)
        raise KeyError
    assert draws() == expected
    assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize("precision", ["medium", "highest"])
def test_products_are_exact_within_a_job_and_the_callers_after_it(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with console.keep_state():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


def test_warnings_and_handlers_are_the_callers(tmp_path: Path) -> None:
    log = logging.getLogger("skip_exp")
    before = warnings.filters[:]
    with pytest.raises(KeyError), console.shown(tmp_path / "it.log"):
        raise KeyError
    assert warnings.filters == before
    assert (log.handlers, log.level, log.propagate) == ([], logging.NOTSET, True)
