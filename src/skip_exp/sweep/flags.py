"""Flags among the overrides of a command line.

Hydra's own parser refuses ``+task=rte -m seed=1,2``: it wants the overrides to stand together.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from skip_exp import __version__

SWITCHES = (
    *(("--multirun", "-m"), ("--run", "-r"), ("--help", "-h"), ("--hydra-help",)),
    *(("--resolve",), ("--shell-completion", "-sc")),
)
WITH_VALUE = (
    *(("--config-dir", "-cd"), ("--config-name", "-cn"), ("--config-path", "-cp")),
    *(("--package", "-p"), ("--experimental-rerun",)),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        print(f"error: {message} (see --help)", file=sys.stderr)
        raise SystemExit(2)


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments, overrides before flags.

    Raises:
        SystemExit: an unknown flag, or one without its value; also after ``--version``.
    """
    parser = _Parser("skip-exp", add_help=False)
    parser.add_argument("overrides", nargs="*")
    for names in SWITCHES:
        parser.add_argument(*names, action="store_true")
    for names in WITH_VALUE:
        parser.add_argument(*names)
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--version", action="version", version=f"skip_exp {__version__}")
    given = vars(parser.parse_intermixed_args(arguments))
    sorted_ones: list[str] = given.pop("overrides")
    for name, value in given.items():
        if value:
            sorted_ones.append(f"--{name.replace('_', '-')}")
            sorted_ones += [] if value is True else [value]
    return sorted_ones
