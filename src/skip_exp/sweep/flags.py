"""Hydra's flags among the overrides of a command line.

Hydra's own parser knows no ``+task=rte -m seed=1,2``: the overrides have to stand together.
"""

from collections.abc import Sequence

# Flags whose value is the next argument, unless it is joined to them by "=".
_TAKE_A_VALUE = (
    *("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    *("--package", "-p", "--cfg", "-c", "--experimental-rerun"),
)
_MAY_TAKE_A_VALUE = ("--info", "-i")


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
