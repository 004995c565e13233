"""The version of the code that computed a number: a part of every key.

It follows the imports of the module that computes, those inside functions too. Every file of the
package and every custom module counts by its content, an installed package by its version. An edit
of a report makes no cached number stale, because nothing that computes imports it.
"""

import ast
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

ROOT = __name__.partition(".")[0]
LISTED = re.compile(r"^(\w+)(?:/|\.py,|$)", re.MULTILINE)  # a name that can be imported


def digest(value: object, default: Callable[[Any], Any] = str) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys; see :func:`json.dumps`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=default).encode()).hexdigest()


def job_code() -> str:
    """Code version of what every job runs, as it stands in a result."""
    return code_of(f"{ROOT}.pipeline")[:16]


def parts_code(*names: str) -> str:
    """Code version of a job's exchangeable parts among ``names``, beside :func:`job_code`.

    Args:
        names: dotted, such as ``skip_exp.attribution.fisher.scores`` or ``mine.scores``. A short
            name, such as ``uniform``, is a part of what every job runs.
    """
    return digest([code_of(name) for name in sorted(names) if "." in name])[:16]


@cache
def code_of(name: str) -> str:
    """Code version of a module and of all that it imports, which are found but not imported.

    Args:
        name: dotted, of the module or of what is in it.
    """
    # A name in a module is versioned by its module.
    module = name
    while "." in module and _source_of(module) is None:
        module = module.rpartition(".")[0]
    followed = {ROOT, module.partition(".")[0]}  # packages whose files count one by one
    code: dict[str, str] = {}
    waiting = [module]
    while waiting:
        module = waiting.pop()
        package = module.partition(".")[0]
        if module in code or package in sys.stdlib_module_names:
            continue
        if package not in followed and find_version(package):
            code[package] = find_version(package)
            continue
        source = _source_of(module)
        if source is not None:  # else it is a name in a module, or its import will fail
            code[module] = hashlib.sha256(_read(source)).hexdigest()
            waiting += _list_imports(module, source)
        if "." in module:
            waiting.append(module.rpartition(".")[0])  # a package is imported before its modules
    return digest(code)


@cache  # all keys of a process are those of the sources that it read first
def _read(source: Path) -> bytes:
    return source.read_bytes()


@cache
def _list_imports(module: str, source: Path) -> list[str]:
    """Names of all that a module imports, inside its functions too: modules, or what is in them."""
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    try:
        waiting: list[ast.AST] = [ast.parse(_read(source))]
    except SyntaxError:  # its import will say so
        return names
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # Each level of a relative import is a package further up.
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            if node.module:
                base.append(node.module)
            whole = ".".join(base)
            names.append(whole)
            names += [f"{whole}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            waiting += node.orelse  # the other branch never runs
        elif not isinstance(node, ast.expr):
            waiting += ast.iter_child_nodes(node)
    return names


def _source_of(module: str) -> Path | None:
    origin = getattr(_find(module), "origin", None) or ""
    return Path(origin) if origin.endswith(".py") else None


@cache
def _find(module: str) -> ModuleSpec | None:
    """Where a module lies; unlike :func:`importlib.util.find_spec`, it imports no package."""
    package = module.rpartition(".")[0]
    if package:
        above = getattr(_find(package), "submodule_search_locations", None)
        return PathFinder.find_spec(module, above) if above else None
    with suppress(ImportError, ValueError):  # the import of the part says so by its key
        return importlib.util.find_spec(module)
    return None


@cache
def _list_installed() -> dict[str, list[Distribution]]:
    """The distributions that have a package or a module, by its name in an import."""
    installed: dict[str, list[Distribution]] = {}
    for distribution in distributions():
        files = distribution.read_text("RECORD") or distribution.read_text("top_level.txt") or ""
        for name in set(LISTED.findall(files)):
            installed.setdefault(name, []).append(distribution)
    return installed


@cache
def find_version(package: str) -> str:
    """Version of an installed package, by its name in an import; empty where there is none.

    A file of the user's that has the name of an installed package is none.
    """
    source = _source_of(package)
    versions = set()
    for distribution in _list_installed().get(package, ()):
        if source is None or source.is_relative_to(str(distribution.locate_file(""))):
            versions.add(distribution.version)
    return ", ".join(sorted(versions))
