"""Custom parts, named by their place (``module.name``) instead of a short name."""

import sys
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, TypeVar

from skip_exp.errors import ConfigError, one_line

Part = TypeVar("Part")


def import_part(key: str, name: str) -> Any:
    """The object at the dotted ``name``, which the configuration has under ``key``.

    Raises:
        ConfigError: it is no dotted name, or cannot be imported.
    """
    if ":" in name or "." not in name:
        raise ConfigError(key, name, "must be module.name")
    try:
        return resolve_name(name)
    except Exception as error:  # whatever a module raises while it is imported
        raise ConfigError(key, name, f"cannot be imported: {one_line(error)}") from error


def part_class(
    key: str, name: str, known: Mapping[str, type[Part]], base: type[Part]
) -> type[Part]:
    """The class that ``known`` has by the short ``name``, or a custom subclass of ``base``.

    Raises:
        ConfigError: it cannot be imported, or is no subclass.
    """
    found = known[name] if name in known else import_part(key, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        place = f"{base.__module__}.{base.__name__}".removeprefix("skip_exp.")
        raise ConfigError(key, name, f"must be a subclass of {place}")
    return found


def check_imported(key: str, name: str) -> None:
    """Refuse a dotted ``name`` that comes from a file: reading a file must not import modules.

    Raises:
        ConfigError: its module was not imported before.
    """
    module = name.rpartition(".")[0]
    if module and not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(key, ascii(name[:100]), "must be module.name")
    if module and module not in sys.modules:
        why = f"a custom part; if you trust it, import {module} first: {importing(module)} ..."
        raise ConfigError(key, name, why)


def importing(*modules: str) -> str:
    """The command line that imports custom parts before it acts as ``skip-exp``."""
    code = f"import {', '.join(modules)}; from skip_exp.__main__ import main; exit(main())"
    return f'python -c "{code}"'
