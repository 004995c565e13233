"""Parts of the user's own: named by their place (``module.name``), not by a short name."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from skip_exp.errors import ConfigError


def named(key: str, name: str, short_names: Sequence[str]) -> Any:
    """What the dotted ``name`` leads to: an attribute of a module that can be imported.

    Args:
        key: config key, for the message.
        short_names: for the message.

    Raises:
        ConfigError: no dot in it, or nothing there.
    """
    module, _, attribute = name.rpartition(".")
    if not module:
        allowed = f"must be one of {', '.join(short_names)}, or module.name of your own"
        raise ConfigError(key, name, allowed)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(key, name, f"cannot be imported: {error}") from error


def check_imported(key: str, name: str) -> None:
    """Refuse a dotted ``name`` that comes from a file: reading one must not import modules.

    Raises:
        ConfigError: its module was not imported before.
    """
    module = name.rpartition(".")[0]
    if module and module not in sys.modules:
        allowed = f"a part of somebody's own: import {module} first, if you trust it"
        raise ConfigError(key, name, allowed)
