"""Errors a user can act on: one line with the key, the value and what is allowed."""

import difflib
import errno
from collections.abc import Iterable, Sequence

_SHOWN = 80  # characters of a value in a message
_NAMES = 20  # names listed in a message
INTERRUPTED = "interrupted"  # error of a job ended by Ctrl-C or SIGTERM: nobody is alerted


class SkipError(Exception):
    """A failure explained in one line and shown without a traceback.

    Attributes:
        in_job: a job had begun; else a command was refused before it.
    """

    in_job = False


class ConfigError(SkipError):
    """A configuration value that cannot work.

    Args:
        key: dotted config key, such as ``prune.ratio``.
        value: the given value.
        allowed: the allowed values, in words.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")


class ExampleError(SkipError):
    """An example for inference that does not fit the task.

    Args:
        number: position of the example, from 1.
        reason: what is wrong with it.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"example {number}: {reason}")
        self.number = number
        self.reason = reason


class DataError(SkipError):
    """Data that is missing, unreachable or does not fit its task's description."""


def is_full_disk(error: BaseException) -> bool:
    """Whether a file could not be written because there is no room."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the error's name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's message on one line, or the error's name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """``; did you mean A or B?`` where some of ``words`` are near, else empty."""
    near = difflib.get_close_matches(word, list(words), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def shown(value: object) -> str:
    """``repr`` on one line, shortened, for messages."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def shown_names(names: Sequence[object], most: int = _NAMES) -> str:
    """A list of names for messages; odd names are quoted, long lists are shortened."""
    listed = []
    for name in map(str, names[:most]):
        is_odd = not name.isprintable() or len(name) > _SHOWN
        listed.append(shown(name) if is_odd else name)
    others = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(listed) + others or "nothing"
