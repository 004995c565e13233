"""``result.json``: what one job leaves behind, done or failed; tables and W&B mirror it."""

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, reduce
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, Literal, Unpack, cast

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict  # pydantic reads it on every Python

from skip_exp.cache.version import job_code, parts_code
from skip_exp.config.names import KINDS, PARTS
from skip_exp.config.schema import backbone_label, method_name
from skip_exp.errors import SkipError
from skip_exp.utils import files
from skip_exp.utils.machine import git_commit, installed

log = logging.getLogger(__name__)

SCHEMA = 1
PACKAGES = ("skip_exp", "torch", "transformers", "datasets", "lightning", "wandb")  # in `versions`
FILE = "result.json"
CONFIG = "config.yaml"  # beside it: the resolved configuration, written when the job begins
NEURONS = 10**6  # more than any site has
SITE = rf"^(encoder|decoder)\.\d{{1,4}}\.({KINDS[0]}|(self|cross)\.({'|'.join(KINDS[1:])}))$"


def _fitting(sizes: Sequence[int]) -> Sequence[int]:
    kept, of = sizes
    if not 0 <= kept <= of <= NEURONS or not of:
        raise ValueError("must be [kept, of]")
    return sizes


Count = Annotated[int, Field(ge=-(2**53), le=2**53)]  # what a float holds exactly
Site = Annotated[str, Field(pattern=SITE)]  # as `models.sites` names it
Sizes = Annotated[Sequence[Count], Field(min_length=2, max_length=2), AfterValidator(_fitting)]


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
    steps: Count  # only in results of older versions
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
    contended: bool  # under other load: never shown as a speed-up
    place: str  # hash of processor, threads and GPUs, for which it holds


@with_config(ConfigDict(strict=True, allow_inf_nan=False))  # for its parts, too
class Result(TypedDict, total=False):
    """The fields of ``result.json``; `new` gives every one of them a value."""

    schema: Count
    job_id: str
    status: Literal["done", "failed"]
    error: str | None
    sweep: str | None  # group
    task: str | None
    backbone: str | None
    backbone_note: str | None  # what a reader must know of it: "distilled from MiniLM ..."
    family: str | None
    seed: Count | None
    prompt: Mapping[str, Any]  # {kind, length, init}
    readout: str | None
    start: str | None  # the skill that tuning started from; null: a new prompt
    attribution: str | None  # name of the method; its options are in `config`
    ratio: float | None  # asked for, or found
    ratio_reached: float | None
    precision: str | None  # of the trainers, `auto` resolved
    method: Method
    data_source: str | None  # local:<dir> | hub:<id> | embedded:<name>
    data_is_sample: bool
    data_hash: str | None  # of the texts and labels that were read
    duplicates: Count  # validation rows whose texts are also a train row's
    dropped: Count  # rows left out: bad ones, and duplicates in train
    train_rows: Count | None  # how many were drawn to train on; null: all there are
    n_eval: Count | None  # validation rows
    majority: Mapping[str, float]  # {metric: score of always answering the majority class}
    metric: MainScores  # the task's main metric on the validation split
    metrics: Mapping[str, Any]  # {metric: Scores}; extra: {split: {metric: Scores}}
    select: Scores  # the main metric on the selection slice
    probes: Mapping[str, float]  # of the search for a ratio: {ratio: select score, final}
    params: Params
    flops: Mapping[str, float]  # {before, after, ratio}
    keep_sizes: Mapping[Site, Sizes]  # {site: [kept, of]}
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


NOT_RETUNED = {"distill": 0.0, "train": "none"}
FIELDS = [name for name in Result.__annotations__ if name != "path"]
MAPPINGS = (
    *("prompt", "method", "majority", "metric", "metrics", "select", "probes"),
    *("params", "flops", "keep_sizes", "latency", "seconds", "cache", "config", "versions"),
)


def new(**fields: Unpack[Result]) -> Result:
    """A result with every field; the ones not given are ``None`` or empty.

    Raises:
        TypeError: a field that the schema does not have.
    """
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise TypeError(f"not a field of {FILE}: {', '.join(unknown)}")
    defaults: dict[str, Any] = {
        **{name: {} if name in MAPPINGS else None for name in FIELDS},
        **{"schema": SCHEMA, "job_id": "", "status": "done", "data_is_sample": False},
        **{"reused": False, "retimed": False, "git_commit": git_commit()},
        "versions": _versions(fields.get("config") or {}),
        "finished": datetime.now(UTC).isoformat("T", "seconds"),
    }
    return cast(Result, defaults | fields)


def _versions(config: Mapping[str, Any]) -> dict[str, str]:
    return {"code": job_code(), "parts": parts_code(*parts(config))} | installed(PACKAGES)


def parts(config: Mapping[str, Any]) -> list[str]:
    """Attribution method, prompt, readout and allocation as a configuration names them."""
    return [str(at(config, key) or "") for key in PARTS]


def write(folder: Path | str, result: Result) -> Path:
    """Write ``folder/result.json`` whole or not at all (temporary file, then rename).

    Raises:
        SkipError: the folder holds another job's finished result, or cannot be written.
    """
    path = Path(folder) / FILE
    check_folder(folder, result["job_id"])
    stored = {key: value for key, value in result.items() if key != "path"}
    # Non-finite numbers become null, tensors and arrays lists.
    plain = to_jsonable_python(stored, inf_nan_mode="null", fallback=lambda value: value.tolist())
    content = (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode()
    files.save(path, content, f"output_dir={folder}: {FILE}")
    return path


def check_folder(folder: Path | str, job_id: str) -> None:
    """Raise SkipError where ``folder`` holds the finished result of another job."""
    earlier = finished(folder)
    if earlier and earlier.get("job_id") != job_id:
        raise SkipError(f"output_dir={folder}: holds the finished result of another job")


def finished(folder: Path | str) -> dict[str, Any] | None:
    """The finished result in ``folder``, of any schema and unchecked; None where there is none."""
    result = _parsed(Path(folder) / FILE)
    return result if result and result["status"] == "done" else None


def write_failed(folder: Path | str, cfg: Mapping[str, Any], error: str) -> Path:
    """Record a failed job with the fields that its config (plain containers) determines.

    A finished result that is already in the folder stays.
    """
    if finished(folder):
        path = Path(folder) / FILE
        log.warning("keeping finished %s; later error: %s", path, error)
        return path
    return write(folder, new(**from_config(cfg), status="failed", error=" ".join(error.split())))


def from_config(cfg: Mapping[str, Any]) -> Any:
    """The fields that a configuration (plain containers) determines, of a job done or failed."""

    def get(key: str) -> Any:
        value = at(cfg, key)
        return None if value == "???" else value

    def some(group: str, *keys: str) -> dict[str, Any]:
        values = {key: get(f"{group}.{key}") for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    name, layers, ratio = get("backbone.name"), get("backbone.layers"), get("prune.ratio")
    method = some("prune", "sites", "allocation")
    if (is_retuned := get("retune.enabled")) is not None:
        method |= {key: get(f"prune.{key}") for key in ("target_speedup", "max_drop")}
        method |= some("retune", "distill", "train") if is_retuned else NOT_RETUNED
    return {
        "sweep": get("sweep.id"),
        "task": get("task.name"),
        "backbone": backbone_label(name, layers) if isinstance(layers, int) else name,
        "family": get("backbone.family"),
        "readout": get("backbone.readout"),
        "seed": get("seed"),
        "prompt": some("prompt", "kind", "length", "init"),
        "attribution": method_name(get("attribution._target_")),
        "ratio": ratio if type(ratio) in (int, float) else None,
        "method": method,
        "data_source": get("data.source"),
        "train_rows": get("data.train_rows"),
        "config": cfg,
    }


def at(fields: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of nested fields; None where there is none."""
    return reduce(_item, key.split("."), cast(Any, fields))


def _item(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _parsed(path: Path) -> dict[str, Any] | None:
    """A result of any version of the schema, with unchecked fields."""
    try:
        result = files.parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "status" in result else None


def _problem(result: Mapping[str, Any]) -> str | None:
    """Why a result cannot be read as one of this schema."""
    if result.get("schema") != SCHEMA:
        return f"schema {result.get('schema')!r} is unknown; this skip_exp reads {SCHEMA}"
    try:
        _schema().validate_python(_known(result))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {shown(first['input'])}"
    return None


@cache
def _schema() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def _known(value: Any) -> Any:
    """Without nulls, which mark unknown values."""
    if not isinstance(value, Mapping):
        return value
    return {key: _known(item) for key, item in value.items() if item is not None}


def load(paths: Path | str | Iterable[Path | str]) -> list[dict[str, Any]]:
    """Results below the folders (or in the files) given, each with its ``path``, in path order.

    Files that cannot be read, have another schema or have invalid fields are skipped and named in
    one warning.
    """
    roots = [paths] if isinstance(paths, str | Path) else list(paths)
    found = dict.fromkeys(file for root in map(Path, roots) for file in _files(root))
    loaded, unreadable = [], []
    for file in found:
        result = _parsed(file)
        problem = _problem(result) if result else None
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
    A contended timing has no ``latency/speedup``, so that no chart shows one.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{prefix}/{key}", item)
        elif value is None:
            return
        elif prefix.startswith("keep_sizes/"):
            flat[f"{prefix}/kept"], flat[f"{prefix}/of"] = value
        else:
            flat[prefix] = "+".join(map(str, value)) if isinstance(value, list) else value

    for key, value in result.items():
        if key not in ("config", "path"):
            add(key, value)
    if flat.get("latency/contended"):
        flat.pop("latency/speedup", None)
    return flat
