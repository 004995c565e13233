"""What made a result: versions of packages, the commit of the checkout, the processor."""

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those that are there."""
    version_by_package = {}
    for package in packages:
        try:
            version_by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return version_by_package


@lru_cache
def git_commit() -> str | None:
    """Commit of the checkout this code runs from (``-dirty`` where edited); None when installed."""
    folder = Path(__file__).resolve().parent
    if "site-packages" in folder.parts:  # a repository around it would be somebody else's
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def cores() -> int | None:
    """Cores that this process may use: torch starts as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
