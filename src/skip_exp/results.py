"""``result.json``: what one job leaves behind, done or failed; tables and W&B mirror it."""

import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, Literal, Unpack, cast

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic reads it on every Python

from skip_exp.cache.versions import job_code
from skip_exp.config.names import KINDS
from skip_exp.config.schema import backbone_label, method_name
from skip_exp.errors import SkipError
from skip_exp.utils import files
from skip_exp.utils.provenance import git_commit, installed

log = logging.getLogger(__name__)

SCHEMA = 1
# Their versions stand in a result, beside the version of this package's own code.
PACKAGES = ("skip_exp", "torch", "transformers", "datasets", "lightning", "wandb")
FILE = "result.json"
CONFIG = "config.yaml"  # beside it: the resolved configuration, written when the job begins
# Of `keep_sizes`: what `models.sites` calls them, and more neurons than any of them has.
NEURONS = 10**6
_FFN, *_ATTENTION = KINDS
_PART = rf"({_FFN}|(self|cross)\.({'|'.join(_ATTENTION)}))"
SITE = re.compile(rf"(encoder|decoder)\.\d{{1,4}}\.{_PART}")
SKILL = ("skill.safetensors", "skill.json")  # of a finished job, in the folder `skill`


STRICT = ConfigDict(strict=True, allow_inf_nan=False)
Count = Annotated[int, Field(ge=-(2**53), le=2**53)]  # what a float holds exactly


class Scores(TypedDict, total=False):
    """One metric after tune, after prune and after retune; fractions, not percent."""

    dense: float | None
    pruned: float | None
    final: float | None


class MainScores(Scores, total=False):
    name: str  # accuracy | f1 | f1_macro | matthews


class Method(TypedDict, total=False):
    sites: list[str]
    allocation: str
    target_speedup: float | None
    max_drop: float | None  # points on the selection slice; the ratio was looked for
    steps: Count
    epochs: Count  # of re-tuning, at most
    distill: float
    train: str  # what re-tuning trained; none
    # Where a speed-up was asked for, the timing that decided what goes, and what it predicts:
    table: Mapping[str, Any]  # {device, threads, contended, speedup}


class Params(TypedDict, total=False):
    # Before: of the dense model or, with `backbone.layers`, of one on the whole backbone. The same
    # holds for `flops` and for `dense_ms` of `latency`.
    block_before: Count  # weights and biases of the attention and FFN linears of the layers in use
    block_after: Count
    all_before: Count
    all_after: Count
    block_pruned: float  # fraction removed
    all_pruned: float


class Latency(TypedDict, total=False):
    batch: Count
    seq_len: Count
    device: str
    threads: Count
    dtype: str
    dense_ms: float
    final_ms: float
    speedup: float
    spread: float
    contended: bool  # measured beside other load: never shown as a speed-up


@with_config(STRICT)  # for its parts, too
class Result(TypedDict, total=False):
    """The fields of ``result.json``; `new` gives every one of them a value."""

    schema: Count
    job_id: str
    status: Literal["done", "failed"]
    error: str | None
    sweep: str | None  # group
    task: str | None
    backbone: str | None
    backbone_note: str | None  # what a reader must know of it: "BERT-derived ..."
    family: str | None
    seed: Count | None
    prompt: Mapping[str, Any]  # {kind, length, init}
    readout: str | None
    attribution: str | None  # name of the method; its options are in `config`
    ratio: float | None  # asked for, or found
    ratio_reached: float | None
    precision: str | None  # of the trainers, `auto` resolved
    method: Method
    data_source: str | None  # local:<dir> | hub:<id> | sample
    data_is_sample: bool
    train_rows: Count | None  # how many were drawn to train on; null: all there are
    n_eval: Count | None  # validation rows
    majority: Mapping[str, float]  # {metric: score of always answering the majority class}
    metric: MainScores  # the task's main metric on the validation split
    metrics: Mapping[str, Any]  # {metric: Scores}; extra: {split: {metric: Scores}}
    select: Scores  # the main metric on the selection slice
    # The same of dense and final, which chose their epoch on that slice, cross-fitted.
    select_crossfit: Scores
    probes: Mapping[str, float]  # of the search for a ratio: {ratio: select score, final}
    params: Params
    flops: Mapping[str, float]  # {before, after, ratio}
    keep_sizes: Mapping[str, Sequence[Count]]  # {site: [kept, of]}
    latency: Latency
    seconds: Mapping[str, float]  # {phase: seconds}, total
    cache: Mapping[str, str]  # {tune, attribution: hit | miss}
    skill: str | None  # folder, relative to the file where it lies beside it
    config: Mapping[str, Any]  # resolved
    versions: Mapping[str, str]
    git_commit: str | None
    finished: str  # UTC, ISO 8601
    reused: bool  # answered by an earlier run of the same job
    retimed: bool  # `latency` was measured later than the rest
    path: str  # set by `load`: where the file lies; never stored


_MAPPINGS = {
    *("prompt", "method", "majority", "metric", "metrics", "select", "select_crossfit", "probes"),
    *("params", "flops", "keep_sizes", "latency", "seconds", "cache", "config", "versions"),
}


def new(**fields: Unpack[Result]) -> Result:
    """A result with every field; the ones not given are ``None`` or empty.

    Raises:
        TypeError: a field that the schema does not have.
    """
    unknown = sorted(fields.keys() - Result.__annotations__.keys() | fields.keys() & {"path"})
    if unknown:
        raise TypeError(f"not a field of {FILE}: {', '.join(unknown)}")
    names = [name for name in Result.__annotations__ if name != "path"]
    result: dict[str, Any] = {name: {} if name in _MAPPINGS else None for name in names}
    result |= {"schema": SCHEMA, "job_id": "", "status": "done", "data_is_sample": False}
    result |= {
        "reused": False,
        "retimed": False,
        "versions": {"code": job_code()} | installed(PACKAGES),
    }
    result |= {"git_commit": git_commit(), "finished": datetime.now(UTC).isoformat("T", "seconds")}
    return cast(Result, result | fields)


def _plain(value: Any) -> Any:
    """JSON values only: non-finite numbers become null, tensors and paths plain values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write(folder: Path | str, result: Result) -> Path:
    """Write ``folder/result.json`` whole or not at all (temporary file, then rename).

    Raises:
        SkipError: the folder holds another job's finished result, or cannot be written.
    """
    path = Path(folder) / FILE
    check_folder(folder, result["job_id"])
    stored = {key: value for key, value in result.items() if key != "path"}
    content = json.dumps(_plain(stored), indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, content.encode())
    except OSError as error:
        raise SkipError(f"output_dir={folder}: cannot write {FILE}: {error.strerror}") from error
    return path


def check_folder(folder: Path | str, job_id: str) -> None:
    """Raise SkipError where ``folder`` holds the finished result of another job."""
    earlier = finished(folder)
    if earlier and earlier.get("job_id") != job_id:
        raise SkipError(f"output_dir={folder}: holds the finished result of another job")


def finished(folder: Path | str) -> dict[str, Any] | None:
    """The finished result in ``folder``, of any schema and unchecked; None where there is none."""
    path = Path(folder) / FILE
    result = _parsed(path) if path.is_file() else None
    return result if result and result["status"] == "done" else None


def write_failed(folder: Path | str, cfg: Mapping[str, Any], error: str) -> Path:
    """Record a failed job with what its config (plain containers) tells.

    A finished result already in the folder stays: what failed came after it.
    """
    if finished(folder):
        path = Path(folder) / FILE
        log.warning("keeping the finished %s; later error: %s", path, error)
        return path
    return write(folder, new(**from_config(cfg), status="failed", error=" ".join(error.split())))


def from_config(cfg: Mapping[str, Any]) -> Any:
    """The fields that a configuration (plain containers) tells, of a job done or failed."""

    def get(*keys: str) -> Any:
        value: Any = cfg
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value == "???" else value

    def some(group: str, *keys: str) -> dict[str, Any]:
        values = {key: get(group, key) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    ratio = get("prune", "ratio")
    return {
        "sweep": get("logger", "group"),
        "task": get("task", "name"),
        "backbone": _backbone(get("backbone", "name"), get("backbone", "layers")),
        "family": get("backbone", "family"),
        "readout": get("backbone", "readout"),
        "seed": get("seed"),
        "prompt": some("prompt", "kind", "length", "init"),
        "attribution": method_name(get("attribution", "_target_")),
        "ratio": ratio if isinstance(ratio, int | float) and not isinstance(ratio, bool) else None,
        "method": some("prune", "sites", "allocation", "steps") | _retuning(get),
        "data_source": get("data", "source"),
        "data_is_sample": get("data", "source") == "sample",
        "train_rows": get("data", "train_rows"),
        "config": cfg,
    }


def _backbone(name: Any, layers: Any) -> Any:
    """Its label, whatever a configuration that failed holds."""
    return backbone_label(name, layers) if isinstance(layers, int) else name


def _retuning(get: Callable[..., Any]) -> dict[str, Any]:
    """How the goal was put and what re-tuning did; nothing where the configuration lacks it."""
    if get("retune", "enabled") is None:
        return {}
    enabled = get("retune", "enabled")
    return {
        "target_speedup": get("prune", "target_speedup"),
        "max_drop": get("prune", "max_drop"),
        "distill": get("retune", "distill") if enabled else 0.0,
        "train": get("retune", "train") if enabled else "none",
    }


def _parsed(path: Path) -> dict[str, Any] | None:
    """A result of any version of the schema, whatever its fields hold."""
    try:
        result = files.parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "status" in result else None


def _odd(result: Mapping[str, Any]) -> str | None:
    """Why a result cannot be read as one of this schema."""
    if result.get("schema") != SCHEMA:
        return f"schema {result.get('schema')!r} is unknown; this skip_exp reads {SCHEMA}"
    try:
        _checked().validate_python(_told(result))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {shown(first['input'])}"
    for site, sizes in (result.get("keep_sizes") or {}).items():
        kept, of = sizes if sizes and len(sizes) == 2 else (0, 0)
        if not (SITE.fullmatch(site) and 0 <= kept <= of <= NEURONS and of):
            return f"keep_sizes.{site} must be a site's [kept, of], not {sizes}"
    return None


@cache
def _checked() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _told(value: Any) -> Any:
    """Without nulls: they stand for what is not known."""
    if not isinstance(value, Mapping):
        return value
    return {key: _told(item) for key, item in value.items() if item is not None}


def load(paths: Path | str | Iterable[Path | str]) -> list[dict[str, Any]]:
    """Results below the folders (or in the files) given, each with its ``path``, in path order.

    Files that cannot be read, are of another schema or hold what no job writes are skipped and
    named in one warning.
    """
    roots = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for root in map(Path, roots) for file in _files(root)]
    loaded, unreadable = [], []
    for file in dict.fromkeys(files):
        result = _parsed(file)
        problem = _odd(result) if result else None
        if result is None or problem:
            unreadable.append(f"{file} ({problem})" if problem else str(file))
        else:
            loaded.append(result | {"path": str(file)})
    if unreadable:
        log.warning("skipped, not a readable result: %s", ", ".join(unreadable))
    return loaded


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    result_files = []
    for at, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "wandb" and not name.startswith(".")]
        result_files += [Path(at) / FILE] if FILE in names else []
    return sorted(result_files)


def flatten(result: Mapping[str, Any]) -> dict[str, Any]:
    """W&B summary: nested fields joined by ``/`` (``metric/final``), unset ones left out.

    ``config`` is left out: W&B has a place for it. A keep size gives ``<site>/kept`` and ``/of``.
    A contended timing has no ``latency/speedup``: no chart may show it as one.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{prefix}/{key}", item)
        elif prefix.startswith("keep_sizes/"):
            flat[f"{prefix}/kept"], flat[f"{prefix}/of"] = value
        elif value is not None:
            flat[prefix] = "+".join(map(str, value)) if isinstance(value, list) else value

    for key, value in result.items():
        if key not in ("config", "path"):
            add(key, value)
    if flat.get("latency/contended"):
        flat.pop("latency/speedup", None)
    return flat
