"""Which version of the code computed a number: computed from imports, never kept by hand.

A module's code version is a hash of its source and of all that it imports, directly or not, from
its own package and from this one, and of the versions of the libraries that these import. So an
edit of what draws the calibration rows makes relevances stale, and an edit of a report nothing.
What is declared in ``skip_exp.config`` does not count: its values are in the keys themselves.
Imports no torch.
"""

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = __name__.partition(".")[0]
LEFT_OUT = f"{ROOT}.config"
# By stage of the cache, the modules that compute its entries.
STAGES = {
    "tune": ("phases.tune",),
    "attribute": ("phases.attribute",),
    "teacher": ("phases.fit",),
    "hidden": ("phases.fit",),
    "score": ("phases.test",),
    "probe": ("phases.search",),
    "latency": ("phases.sublayers",),
}
PHASES = ("tune", "attribute", "prune", "retune", "test", "benchmark", "search")
BESIDE = {"transformers": ("tokenizers",)}  # libraries that compute, imported by others only
# They bring bytes or wait for them, and compute nothing.
CARRIERS = {"datasets", "filelock", "huggingface_hub", "omegaconf", "psutil", "safetensors"}


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def stage_version(stage: str) -> str:
    """Code version of what computes a stage's entries."""
    return code_version(*(f"{ROOT}.{module}" for module in STAGES[stage]))


@lru_cache
def job_code() -> str:
    """Code version of all phases, as it stands in a result and in its id."""
    return code_version(*(f"{ROOT}.phases.{phase}" for phase in PHASES))[:16]


@lru_cache
def code_version(*modules: str) -> str:
    """Hash of the sources of ``modules``, of what they import, and of the libraries in them.

    Args:
        modules: dotted names; of this package, or a user's own. Parents of a user's module are
            imported, the modules themselves are only read.

    A module that cannot be found counts as empty: whoever runs it is told so by the import.
    """
    content, names = hashlib.sha256(), closure(modules)
    for name in sorted(names):
        content.update(name.encode() + _read(name))
    content.update(json.dumps(libraries(names), sort_keys=True).encode())
    return content.hexdigest()


def libraries(modules: Iterable[str]) -> dict[str, str]:
    """Versions of the libraries that these modules, read as they stand, import."""
    own_packages = {name.partition(".")[0] for name in modules} | {ROOT}
    tops = {top.partition(".")[0] for name in modules for top in _imports(name)}
    used = tops - own_packages - CARRIERS - sys.stdlib_module_names
    used |= {more for name in used for more in BESIDE.get(name, ())}
    return {name: _installed(name) for name in sorted(used)}


def closure(modules: tuple[str, ...]) -> set[str]:
    """``modules`` and everything that they import from their own packages and from this one."""
    packages = {name.partition(".")[0] for name in modules} | {ROOT}
    reached, waiting = set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name in reached or source_of(name) is None or name.startswith(LEFT_OUT):
            continue
        reached.add(name)
        waiting += [i for i in _imports(name) if i.partition(".")[0] in packages]
    return reached


@cache
def source_of(name: str) -> Path | None:
    """The file of a module; None where there is none that can be read."""
    package, *rest = name.split(".")
    if package == ROOT:  # without importing parents: some take seconds
        place = Path(__file__).parents[1].joinpath(*rest)
        files = (place.with_suffix(".py"), place / "__init__.py")
        return next((file for file in files if file.is_file()), None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    is_source = spec is not None and spec.origin and spec.origin.endswith(".py")
    return Path(str(spec.origin)) if spec is not None and is_source else None


def _read(name: str) -> bytes:
    path = source_of(name)
    return path.read_bytes() if path else b""


@cache
def _imports(name: str) -> tuple[str, ...]:
    """Names of the modules that a module imports, those inside its functions too."""
    return tuple(dict.fromkeys(_import_names(name)))


def _import_names(name: str) -> Iterator[str]:
    path = source_of(name)
    is_package = path is not None and path.name == "__init__.py"
    package = name if is_package else name.rpartition(".")[0]
    for node in _run(ast.parse(_read(name))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            whole = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                inner = f"{whole}.{alias.name}"
                is_own = whole.partition(".")[0] in (ROOT, name.partition(".")[0])
                yield inner if is_own and source_of(inner) else whole


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``node`` but what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child)


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # its distribution has another name
        return "?"
