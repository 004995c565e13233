"""Flags on a command line of jobs.

Hydra's own parser refuses ``+task=rte -m seed=1,2``, because the overrides do not stand together.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from skip_exp import __version__

SWITCHES = (
    *("--multirun -m", "--run -r", "--help -h", "--hydra-help", "--resolve"),
    "--shell-completion -sc",
)
WITH_VALUE = (
    *("--config-dir -cd", "--config-name -cn", "--config-path -cp", "--package -p"),
    "--experimental-rerun",
)


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
        SystemExit: an unknown flag, or one without its value; also after ``--version``.
    """
    parser = _Parser("skip-exp", add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names in SWITCHES:
        parser.add_argument(*names.split(), action="store_true")
    for names in WITH_VALUE:
        parser.add_argument(*names.split())
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--version", action="version", version=f"skip_exp {__version__}")
    given = vars(parser.parse_intermixed_args(arguments))
    ordered: list[str] = given.pop("overrides")
    for name, value in given.items():
        if value:
            ordered += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    folder = given["config_dir"]
    return Given(ordered, given["help"], Path(folder) if folder else None)
