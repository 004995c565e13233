"""Progress for those who call from Python, and what Lightning would do to it."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOADING = "skip_exp: loading torch ..."  # said before imports that take seconds


def quiet_lightning() -> None:
    """Silence Lightning's hardware notes and tips."""
    logging.getLogger("lightning").handlers.clear()
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


@contextmanager
def shown() -> Iterator[None]:
    """Print the package's log lines within the block, unless the caller has set up logging."""
    log = logging.getLogger("skip_exp")
    if log.handlers or log.level:
        yield
        return
    handler, level = logging.StreamHandler(sys.stdout), log.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # a notebook's root handler would print each line again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        log.setLevel(level)
