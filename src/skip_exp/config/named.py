"""Custom parts: named by their place (``module.name``), not by a short name."""

import sys
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, TypeVar

from skip_exp.errors import ConfigError

Part = TypeVar("Part")


def named(key: str, name: str, short_names: Sequence[str]) -> Any:
    """What the dotted ``name`` leads to: an attribute of a module that can be imported.

    Args:
        key: config key, for the message.
        short_names: for the message.

    Raises:
        ConfigError: no dot in it, or nothing there.
    """
    if "." not in name:
        allowed = f"must be one of {', '.join(short_names)}, or module.name of your own"
        raise ConfigError(key, name, allowed)
    try:
        return resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(key, name, f"cannot be imported: {error}") from error


def part_class(
    key: str, name: str, known: Mapping[str, type[Part]], base: type[Part]
) -> type[Part]:
    """The class ``known`` by the short ``name``, or a custom subclass of ``base`` by its place.

    Raises:
        ConfigError: neither.
    """
    found = known[name] if name in known else named(key, name, tuple(known))
    if not (isinstance(found, type) and issubclass(found, base)):
        place = f"{base.__module__}.{base.__name__}".removeprefix("skip_exp.")
        raise ConfigError(key, name, f"must be a subclass of {place}")
    return found


def check_imported(key: str, name: str) -> None:
    """Refuse a dotted ``name`` that comes from a file: reading one must not import modules.

    Raises:
        ConfigError: its module was not imported before.
    """
    module = name.rpartition(".")[0]
    if module and module not in sys.modules:
        allowed = f"a custom part: import {module} first, if you trust it"
        raise ConfigError(key, name, allowed)
