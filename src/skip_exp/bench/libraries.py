"""What the figures were measured with, and the two libraries that only the comparisons need."""

import importlib
import platform
from pathlib import Path
from typing import Any

from skip_exp import results
from skip_exp.errors import SkipError

PACKAGES = ("skip_exp", "torch", "transformers", "lightning", "peft", "captum", "onnxruntime")


def extra(name: str) -> Any:
    """Import a library of the ``dev`` extra.

    Raises:
        SkipError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise SkipError(
            f"{package} is not installed; it comes with the dev extra: pip install 'skip_exp[dev]'"
        ) from error


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed."""
    return {"python": platform.python_version()} | results.installed(PACKAGES)


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
