"""Custom parts, named by their place (``module.name``) instead of a short name."""

from pkgutil import resolve_name
from typing import Any

from skip_exp.errors import ConfigError, one_line


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
