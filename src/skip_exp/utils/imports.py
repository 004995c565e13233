"""Imports of libraries that take seconds."""

import gc
import importlib
import sys
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module with garbage collection disabled, once per process.

    Searching the libraries' permanent objects takes a sixth of the import time, so that later
    collections leave them out, too (docs/performance.md).
    """
    if name in sys.modules:  # objects created since may be garbage
        return sys.modules[name]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(name)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    return module
