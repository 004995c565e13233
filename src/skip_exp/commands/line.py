"""What the commands share: their parser and its errors."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import cleandoc

from skip_exp.config.compose import explain
from skip_exp.errors import SkipError, is_full_disk

Main = Callable[[Sequence[str] | None], int]


def parser(word: str, about: str | None) -> ArgumentParser:
    """A parser of ``skip-exp WORD ...``; ``about`` is shown by ``--help`` as it stands."""
    return ArgumentParser(
        prog=f"skip-exp {word}",
        description=cleandoc(about or ""),
        formatter_class=RawDescriptionHelpFormatter,
    )


def add_folders(line: ArgumentParser) -> None:
    """The argument ``folders`` of a command that reads results."""
    where = "folders of results (default: outputs)"
    line.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"], help=where)


def one_line_errors(code: int) -> Callable[[Main], Main]:
    """Make a command print a `SkipError` as one line and return ``code``; 1 if a job failed."""

    def decorate(main: Main) -> Main:
        @wraps(main)
        def wrapped(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except (SkipError, OSError) as error:
                if isinstance(error, OSError) and not is_full_disk(error):
                    raise
                print(f"error: {explain(error)}", file=sys.stderr)
                return code if isinstance(error, SkipError) and not error.in_job else 1

        return wrapped

    return decorate
