"""The version of the code that computed a number, found by following imports.

A module's code version is a hash of its source, of all that it imports from this package or from
custom modules, and of the versions of their libraries. An edit of the function that draws
calibration rows makes cached relevances stale; an edit of a report does not. Imports no torch.
"""

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path

from skip_exp.utils.machine import installed

ROOT = __name__.partition(".")[0]
PIPELINE = f"{ROOT}.pipeline"  # imports all that a job runs
# They declare, refuse, record or look up; they compute no number.
LEFT_OUT = tuple(
    f"{ROOT}.{name}"
    for name in (
        *("config", "logger", "results"),
        *("job.attempts", "job.checks", "job.identity", "job.start", "skill.export"),
    )
)
JOBS = "jobs"  # the cache's folder of notes, beside one folder per stage
# By stage of the cache, the modules that compute its entries. `prepare` draws the rows, and all
# but `latency` depend on the tuned model.
STAGES = {
    stage: ("job.prepare", *modules.split())
    for stage, modules in {
        "tune": "phases.tune",
        "attribute": "phases.tune phases.attribute",
        "teacher": "phases.tune",
        "score": "phases.tune phases.test",
        "probe": "phases.tune phases.attribute phases.search",
        "latency": "phases.sublayers",
    }.items()
}
BESIDE = {"transformers": ("tokenizers",)}  # libraries that compute, imported only by others
# Libraries that transport, wait or check, and compute nothing.
CARRIERS = {
    *("datasets", "filelock", "huggingface_hub", "hydra", "omegaconf", "psutil", "pydantic"),
    *("safetensors", "tqdm"),
}


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def stage_version(stage: str) -> str:
    """Code version of what computes a stage's entries."""
    return code_version(*(f"{ROOT}.{module}" for module in STAGES[stage]))


@lru_cache
def job_code() -> str:
    """Code version of what every job runs, as it stands in a result."""
    return code_version(PIPELINE)[:16]


def own_modules(*names: str) -> list[str]:
    """The modules of custom parts, which are named in full (``module.Class``)."""
    return [_module_of(name.rpartition(".")[0]) for name in names if "." in name]


def _module_of(place: str) -> str:
    """The module in ``module.Class``; ``place`` itself where it is one, or nothing is found."""
    shorter = place
    while shorter and source_of(shorter) is None:
        shorter = shorter.rpartition(".")[0]
    return shorter or place


def parts_code(*parts: str) -> str:
    """Code version of a job's attribution method and custom parts, beside :func:`job_code`."""
    return code_version(*own_modules(*parts))[:16]


@lru_cache
def code_version(*modules: str) -> str:
    """Hash of the sources of ``modules``, of what they import, and of their libraries.

    Args:
        modules: dotted names, of this package or custom ones. Parents of a custom module are
            imported, the modules themselves are only read. A missing module counts as empty.
    """
    content, names = hashlib.sha256(), closure(modules)
    for name in sorted(names):
        content.update(name.encode() + _read(name))
    content.update(json.dumps(libraries(names), sort_keys=True).encode())
    return content.hexdigest()


def libraries(modules: Iterable[str]) -> dict[str, str]:
    """Versions of the libraries that these modules import."""
    own_packages = {name.partition(".")[0] for name in modules} | {ROOT}
    tops = {top.partition(".")[0] for name in modules for top in _imports(name)}
    used = tops - own_packages - CARRIERS - sys.stdlib_module_names
    used |= {more for name in used for more in BESIDE.get(name, ())}
    found = installed(used)
    # "?": its distribution has another name
    return {name: found.get(name, "?") for name in sorted(used)}


def closure(modules: tuple[str, ...]) -> set[str]:
    """``modules`` and all that they import, from this package and from custom modules."""
    reached, waiting = set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name in reached or source_of(name) is None or name.startswith(LEFT_OUT):
            continue
        reached.add(name)
        waiting += [found for found in _imports(name) if _is_beside(found, name)]
    return reached


def _is_beside(found: str, name: str) -> bool:
    """Whether the module ``found`` counts by its source where ``name`` does.

    The rest of a custom module's own package does, even if it is installed.
    """
    package = found.partition(".")[0]
    return _is_own(package) or package == name.partition(".")[0]


@cache
def _is_own(package: str) -> bool:
    """Whether it is this package, or neither installed nor of the standard library."""
    if package == ROOT or package in sys.stdlib_module_names:
        return package == ROOT
    spec = _spec(package)
    places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
    parts = {part for place in places for part in Path(place).parts}
    return bool(parts) and not parts & {"site-packages", "dist-packages"}


@cache
def source_of(name: str) -> Path | None:
    """The file of a module; None where there is none that can be read."""
    package, *rest = name.split(".")
    if package == ROOT:  # without importing parents: some take seconds
        place = Path(__file__).parents[1].joinpath(*rest)
        files = (place.with_suffix(".py"), place / "__init__.py")
        return next((file for file in files if file.is_file()), None)
    spec = _spec(name)
    origin = (spec.origin if spec else None) or ""
    return Path(origin) if origin.endswith(".py") else None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except Exception:  # whatever a parent package raises; the import of a part says so by its key
        return None


@cache  # all keys of a process are those of the sources that it read first
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
    try:
        tree = ast.parse(_read(name))
    except SyntaxError:  # its import will say so
        return
    for node in _run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            whole = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                inner = f"{whole}.{alias.name}"
                is_module = _is_beside(whole, name) and source_of(inner)
                yield inner if is_module else whole


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below ``node``, except those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child)
