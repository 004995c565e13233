"""The version of the code that computed a number: a part of every key. Imports no torch.

The rooms that compute count file by file, with the versions of the libraries that they use: an edit
of a report makes no cached number stale. Methods of attribution and allocation are arguments of
their stages and count there, and so do custom parts, with the custom modules that they import.
"""

import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

from skip_exp.utils.machine import installed

ROOT = __name__.partition(".")[0]
ROOMS = ("data", "models", "training", "callbacks", "phases")  # compute what every stage holds
METHODS = ("attribution", "pruning")  # count where they are used
LIBRARIES = ("torch", "transformers", "tokenizers", "lightning", "torchmetrics", "numpy", "scipy")


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@cache  # all keys of a process are those of the sources that it read first
def rooms_code() -> str:
    """Code version of what every stage runs."""
    files = [file for room in ROOMS for file in _files_of(room)]
    return digest([_hash_files(files), installed(LIBRARIES)])


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
        name: dotted, such as ``skip_exp.attribution.fisher.scores`` or ``mine.Prompt``. A short
            name, such as ``prefix``, is a part of the rooms: an empty version.
    """
    package, _, rest = name.partition(".")
    if not rest:
        return ""
    if package == ROOT:
        return room_code(rest.partition(".")[0])
    return _hash_files(_custom_files(name))


@cache
def room_code(room: str) -> str:
    return _hash_files(_files_of(room))


def _files_of(room: str) -> list[Path]:
    return sorted((Path(__file__).parents[1] / room).rglob("*.py"))


def _hash_files(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.parent.name}/{file.name}".encode() + file.read_bytes())
    return found.hexdigest()


def _custom_files(name: str) -> list[Path]:
    """The module of a custom part, and all custom modules that it imports, wherever it does."""
    module, source = name, None
    while source is None and "." in module:
        module = module.rpartition(".")[0]
        source = _source_of(module)
    if source is None:  # the import of the part says so by its key
        return []
    depth = module.count(".") + (source.name == "__init__.py")
    own = source.parents[depth]  # the folder of its package
    libraries = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
    if str(own) in libraries:  # installed: the rest of its package counts, no other library
        return sorted(source.parents[depth - 1].rglob("*.py")) if depth else [source]
    folders = [folder or "." for folder in sys.path if folder not in libraries]
    finder = ModuleFinder([str(own), *folders], excludes=[ROOT, *sys.stdlib_module_names])
    try:
        finder.import_hook(module)
    except (SyntaxError, ImportError):  # its import will say so
        return [source]
    files = [getattr(each, "__file__", None) for each in finder.modules.values()]
    found = [Path(file) for file in files if file]
    return sorted(file for file in found if file.suffix == ".py")


def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module) if module else None
    except Exception:  # whatever a parent package raises; the import of the part says so by its key
        return None
    origin = (spec.origin if spec else None) or ""
    return Path(origin) if origin.endswith(".py") else None
