"""The version of the code that computed a number: a part of every key.

The rooms that compute count file by file, with the versions of the libraries that they use: an edit
of a report makes no cached number stale. Methods of attribution and allocation are arguments of
their stages and count there. So do custom parts, with all methods, the custom modules that they
import, and the packages around these.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from skip_exp.utils.machine import list_versions

ROOT = __name__.partition(".")[0]
# They compute what every stage holds.
ROOMS = ("outcomes", "data", "models", "backbones", "training", "callbacks", "phases")
METHODS = ("attribution", "pruning")  # count where they are used
LIBRARIES = ("torch", "transformers", "tokenizers", "lightning", "numpy", "scipy")


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@cache
def rooms_code() -> str:
    """Code version of what every stage runs."""
    files = [file for room in ROOMS for file in _files_of(room)]
    return digest([_hash_files(files), list_versions(LIBRARIES)])


def job_code() -> str:
    """Code version of what a job runs, as it stands in a result."""
    return digest([rooms_code(), *map(room_code, METHODS)])[:16]


def parts_code(*names: str) -> str:
    """Code version of a job's custom parts among ``names``, beside :func:`job_code`."""
    return digest([part_code(name) for name in sorted(names) if "." in name])[:16]


@cache
def part_code(name: str) -> str:
    """Code version of an exchangeable part, whose module is found but not imported.

    Args:
        name: dotted, such as ``skip_exp.attribution.fisher.scores`` or ``mine.scores``. A short
            name, such as ``uniform``, is a part of the rooms: an empty version.
    """
    package, _, rest = name.partition(".")
    if not rest:
        return ""
    if package == ROOT:
        return room_code(rest.partition(".")[0])
    # It may call any method of the package.
    return digest([_hash_files(_custom_files(name)), *map(room_code, METHODS)])


@cache
def room_code(room: str) -> str:
    return _hash_files(_files_of(room))


def _files_of(room: str) -> list[Path]:
    return sorted((Path(__file__).parents[1] / room).rglob("*.py"))


def _hash_files(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.parent.name}/{file.name}".encode() + _read(file))
    return found.hexdigest()


@cache  # all keys of a process are those of the sources that it read first
def _read(file: Path) -> bytes:
    return file.read_bytes()


def _custom_files(name: str) -> list[Path]:
    """The module of a custom part, the custom modules that it imports, and their packages."""
    finder = CustomModules(name.partition(".")[0])
    with suppress(ImportError, SyntaxError):  # the import of the part says so by its key
        finder.import_hook(name)
    files = [str(getattr(each, "__file__", "")) for each in finder.modules.values()]
    return sorted(Path(file) for file in files if file.endswith(".py"))


class CustomModules(ModuleFinder):
    """Follows imports without running them: into the part's own package, and what is no install."""

    def __init__(self, own: str) -> None:
        super().__init__()
        self.own = own

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        if path is None and (name == ROOT or name in sys.stdlib_module_names):
            raise ImportError(name)
        found = super().find_module(name, path, parent)
        is_installed = {"site-packages", "dist-packages"} & {*Path(found[1] or "").parts}
        if path is None and is_installed and name != self.own:
            if found[0]:
                found[0].close()
            raise ImportError(name)
        return found
