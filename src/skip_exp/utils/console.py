"""What a user sees of a running command, and what a call from Python must leave as it was.

Bars are for what takes longer than five seconds, on a terminal only.
"""

import gc
import importlib
import logging
import math
import multiprocessing
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from tqdm import tqdm

log = logging.getLogger(__name__)

PIPELINE = "skip_exp.pipeline"  # takes seconds to import
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"  # of a log file, as in conf/config.yaml
AFTER = 5  # seconds until a bar appears
LOOK = "{desc} |{bar:30}| {n_fmt} of {total_fmt}, about {remaining} left"


def import_slow(name: str) -> ModuleType:
    """Import a module that takes seconds, with garbage collection disabled, once per process.

    Searching the libraries' permanent objects takes a sixth of the import time, so that later
    collections leave them out, too (studies/speed.md).
    """
    if name in sys.modules:  # objects created since may be garbage
        return sys.modules[name]
    with pause_collection():
        module = importlib.import_module(name)
        gc.freeze()
    return module


def load_pipeline() -> ModuleType:
    """Import the pipeline; the first time, a line says so."""
    if PIPELINE not in sys.modules:
        log.info("skip_exp: loading torch ...")
    return import_slow(PIPELINE)


@contextmanager
def pause_collection() -> Iterator[None]:
    """Without collections of garbage within the block, as :mod:`timeit` does."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def bar(total: int | None, title: str, items: Iterable[Any] | None = None) -> Any:
    """A bar of ``total`` steps, which iterates ``items`` or has ``update()`` and ``close()``.

    Closed, it leaves no trace.
    """
    # Workers of joblib share a terminal. None: tqdm asks whether standard output is one.
    is_shared = multiprocessing.get_start_method(allow_none=True) == "loky"
    return tqdm(
        items,
        total=total,
        desc=title,
        bar_format=LOOK,
        delay=AFTER,
        leave=False,
        dynamic_ncols=True,
        file=sys.stdout,
        disable=is_shared or None,
    )


def open_screen() -> Console:
    """Standard output, as wide as the terminal; 160 columns where it is none."""
    return Console(width=None if Console().is_terminal else 160)


def duration(seconds: float) -> str:
    """``20 s``, ``8 min`` or ``3.0 h``, rounded up."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = seconds / 60
    return f"{math.ceil(minutes)} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def quiet_lightning() -> None:
    """Silence Lightning's hardware notes and tips."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM are a KeyboardInterrupt, unless the caller handles SIGTERM.

    Lightning makes a SystemExit of Ctrl-C. Its own handler of SIGTERM would end the process as a
    success in a fit, and ignore the signal between fits.
    """
    is_main = threading.current_thread() is threading.main_thread()
    is_free = is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if is_free:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
    finally:
        if is_free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """The job itself reports a full disk, once."""


@contextmanager
def say_nothing() -> Iterator[None]:
    """Log nothing below an error within the block: a job has said what there is to say."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def shown(file: Path | None = None) -> Iterator[None]:
    """Print the package's log lines within the block, unless the caller has set up logging.

    Args:
        file: that gets these lines, and tracebacks (DEBUG) where the caller has set up nothing.
    """
    package = logging.getLogger("skip_exp")
    level = package.level
    propagate = package.propagate
    handlers: list[logging.Handler] = []
    if file is not None:
        with suppress(OSError):  # the job itself reports a folder that cannot be written
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(_LogFile(file, encoding="utf-8"))
            handlers[0].setFormatter(logging.Formatter(FORMAT))
    with warnings.catch_warnings():
        if not (package.handlers or level):
            screen = logging.StreamHandler(sys.stdout)
            screen.setFormatter(logging.Formatter("%(message)s"))
            screen.setLevel(logging.INFO)
            handlers.append(screen)
            package.setLevel(logging.DEBUG)
            package.propagate = False  # a notebook's root handler would print each line again
            warnings.simplefilter("ignore")
        for handler in handlers:
            package.addHandler(handler)
        try:
            yield
        finally:
            for handler in handlers:
                package.removeHandler(handler)
                handler.close()
            package.setLevel(level)
            package.propagate = propagate


@contextmanager
def keep_state() -> Iterator[None]:
    """Leave the caller's random states as they were, and how torch computes.

    Else a loop that draws rows and fits would draw the same rows again, and operations without a
    deterministic implementation would fail after a fit. Within the block products of fp32 are
    exact: what a job finds must follow from its settings.
    """
    import numpy as np  # takes long, with torch: not for a command that is refused
    import torch

    precision = torch.get_float32_matmul_precision()
    is_exact = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.set_float32_matmul_precision("highest")
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(is_exact, warn_only=only_warns)
