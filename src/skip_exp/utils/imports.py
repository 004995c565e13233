"""Importing libraries that take seconds."""

import gc
import importlib
import sys
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile, once per process.

    What the libraries create stays: searching it again and again takes a sixth of the time that
    they take, and it is left out of later searches, too (docs/performance.md).
    """
    if name in sys.modules:  # what came since may well be garbage, and must not be kept
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
