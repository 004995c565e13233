"""The version of the code that computed a number: a part of every key.

The rooms that compute count file by file, with the versions of the libraries that they use: an edit
of a report makes no cached number stale. Methods of attribution and allocation are arguments of
their stages and count there. So do custom parts, with all methods, the custom modules that they
import, and the packages around these.
"""

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

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
    module = name
    while "." in module and _source_of(module) is None:
        module = module.rpartition(".")[0]
    found, waiting = dict[str, Path](), [module]
    while waiting:
        module = waiting.pop()
        source = None if module in found else _source_of(module)
        if source is not None:  # else the import of the part says so by its key
            found[module] = source
            waiting += [each for each in _list_imports(module, source) if _is_custom(each, name)]
            waiting.append(module.rpartition(".")[0])  # is imported before it
    return sorted(found.values())


def _list_imports(module: str, source: Path) -> Iterator[str]:
    """Names of all that a module imports, inside its functions too: modules, or what is in them."""
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(_read(source))
    except SyntaxError:  # its import will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            yield whole
            yield from (f"{whole}.{alias.name}" for alias in node.names)


@cache
def _is_custom(module: str, part: str) -> bool:
    """Whether a module counts by its source: of the part's own package, or not installed."""
    package = module.partition(".")[0]
    if package == part.partition(".")[0]:
        return True
    if package == ROOT or package in sys.stdlib_module_names:
        return False
    source = _source_of(module)
    return source is not None and not {"site-packages", "dist-packages"} & {*source.parts}


def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module) if module else None
    except Exception:  # whatever a parent package raises; the import of the part says so by its key
        return None
    origin = (spec.origin if spec else None) or ""
    return Path(origin) if origin.endswith(".py") else None
