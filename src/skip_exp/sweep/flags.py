"""Flags on a command line of jobs.

Hydra's own parser refuses ``+task=rte -m seed=1,2``, because the overrides do not stand together.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from skip_exp import __version__

SWITCHES = ("--multirun -m", "--run -r", "--help -h", "--hydra-help", "--resolve")
WITH_VALUE = ("--config-dir -cd", "--config-name -cn", "--config-path -cp", "--package -p")


class Given(NamedTuple):
    """A parsed command line; ``arguments`` has overrides before flags."""

    arguments: list[str]
    help: bool
    config_dir: Path | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        print(f"error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def parse(arguments: Sequence[str]) -> Given:
    """Sort a command line of jobs.

    Raises:
        SystemExit: an unknown flag, one without its value or with two; also after ``--version``.
    """
    parser = _Parser("skip-exp", add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names in (*SWITCHES, "--shell-completion -sc"):
        parser.add_argument(*names.split(), action="store_true")
    for names in (*WITH_VALUE, "--experimental-rerun"):
        parser.add_argument(*names.split(), action="append")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"], action="append")
    parser.add_argument("--info", "-i", nargs="?", const="all", action="append")
    parser.add_argument("--version", action="version", version=f"skip_exp {__version__}")
    given = vars(parser.parse_intermixed_args(arguments))
    ordered: list[str] = given.pop("overrides")
    folder = Path(given["config_dir"][0]) if given["config_dir"] else None
    for name, value in given.items():
        flag, values = f"--{name.replace('_', '-')}", value if isinstance(value, list) else []
        if len(values) > 1:
            parser.error(f"{flag} given twice: {', '.join(values)}")
        if value:
            ordered += [flag, *values]
    return Given(ordered, given["help"], folder)
