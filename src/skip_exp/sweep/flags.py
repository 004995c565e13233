"""Hydra's flags among the overrides of a command line.

Hydra's own parser knows no ``+task=rte -m seed=1,2``: the overrides have to stand together.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from skip_exp.config.bombs import bomb
from skip_exp.errors import SkipError

# Flags whose value is the next argument, unless it is joined to them by "=".
_TAKE_A_VALUE = (
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--package", "-p", "--cfg", "-c", "--experimental-rerun"),
)
_MAY_TAKE_A_VALUE = ("--info", "-i")
_ONCE = {
    ("--config-dir", "-cd"): "a further folder: hydra.searchpath=[file:///its/whole/path]",
    ("--config-name", "-cn"): "a command runs one of them",
}


def refused(arguments: Sequence[str]) -> str | None:
    """One line where a flag is unknown, lacks its value or, replacing the first, is given twice.

    Or where a file of ``--config-dir`` could not be read without the memory being gone.
    """
    parser = get_args_parser()
    parser.error = _raise  # type: ignore[method-assign]  # its own prints eight lines of usage
    try:
        options = parser.parse_args(overrides_first(arguments))
    except SkipError as error:
        return f"{error} (--help tells more)"
    for names, hint in _ONCE.items():
        values = [value for flag, value in _valued(arguments) if _is_one_of(names, flag)]
        if len(values) > 1:
            return f"{names[0]} {values[1]}: {names[0]} {values[0]} is given already; {hint}"
    return bomb(Path(options.config_dir)) if options.config_dir else None


def _raise(message: str) -> NoReturn:
    raise SkipError(message)


def _valued(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flags with their values, joined by "=" or not."""
    for flag, following in pairwise([*arguments, ""]):
        if flag.startswith("-") and "=" in flag:
            name, _, value = flag.partition("=")
            yield name, value
        else:
            yield flag, following


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """The same arguments: overrides first, then flags with their values, each in their order."""
    overrides: list[str] = []
    flags: list[str] = []
    previous = ""
    for argument in arguments:
        is_flag = argument.startswith("-") or _is_value(previous, argument)
        (flags if is_flag else overrides).append(argument)
        previous = argument
    return [*overrides, *flags]


def _is_value(flag: str, argument: str) -> bool:
    """Whether the argument is the value of the flag before it."""
    if _is_one_of(_MAY_TAKE_A_VALUE, flag):
        return "=" not in argument
    return _is_one_of(_TAKE_A_VALUE, flag)


def _is_one_of(names: Sequence[str], flag: str) -> bool:
    """Whether the flag is among the names, or short for one: ``--config-n``, as argparse allows."""
    is_short = flag.startswith("--") and len(flag) > 2
    return flag in names or (is_short and any(name.startswith(flag) for name in names))
