"""What the commands share: a parser that shows a module's docstring, and errors as one line."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from skip_exp.errors import SkipError

Main = Callable[[Sequence[str] | None], int]


def parser(word: str, about: str | None) -> ArgumentParser:
    """A parser of ``skip-exp WORD ...``; ``about`` is shown by ``--help`` as it stands."""
    kind: Any = RawDescriptionHelpFormatter
    return ArgumentParser(prog=f"skip-exp {word}", description=about, formatter_class=kind)


def existing_file(text: str) -> str:
    """The path of a file, for ``type=``: a mistyped one is refused before torch is loaded.

    Raises:
        ArgumentTypeError: there is no such file, or no permission to look.
    """
    path = os.path.expanduser(text)
    if os.path.isdir(path) or not os.path.exists(path):
        raise ArgumentTypeError(f"{text}: no such file, or no permission")
    return text


def probability(text: str) -> float:
    """A number from 0 to 1, for ``type=``. Raises ArgumentTypeError."""
    from skip_exp.skill.classifier import check_reject  # brings tokenizers: most commands need none

    try:
        value = float(text)
        check_reject(value)
    except (ValueError, SkipError) as error:
        raise ArgumentTypeError(f"{text}: must be a probability, from 0 to 1") from error
    return value


def one_line_errors(code: int) -> Callable[[Main], Main]:
    """Make a command print a `SkipError` as one line and return ``code``."""

    def decorate(main: Main) -> Main:
        @wraps(main)
        def wrapped(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except SkipError as error:
                print(f"error: {error}", file=sys.stderr)
                return code

        return wrapped

    return decorate
