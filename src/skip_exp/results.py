"""``result.json``: what one job leaves behind, done or failed; tables and W&B mirror it."""

import json
import logging
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from glob import glob
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from rich.filesize import decimal

from skip_exp import __version__
from skip_exp.cache.version import find_version, job_code, parts_code
from skip_exp.config.checks import PARTS
from skip_exp.config.compose import describe_failure
from skip_exp.config.schema import method_name
from skip_exp.errors import SkipError
from skip_exp.utils import files
from skip_exp.utils.machine import git_commit

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "datasets", "lightning", "wandb")  # in `versions`
FILE = "result.json"
CONFIG_FILE = "config.yaml"  # beside it: the resolved configuration, written when the job begins
# Beside it: the final model's answers to the validation split, a row per row in its order: label
# and predicted (indices; several are joined by a semicolon); if one, its probability, and what the
# dense model predicts.
PREDICTIONS = "predictions.csv.gz"
PICTURE = "keep.png"  # beside it: what each layer kept


class Part(BaseModel):
    """A part of a result. ``None`` is unknown.

    Fields can also be read as in the file: ``result["metric"]["final"]``.
    """

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class Scores(Part):
    """One metric after tune, after prune and after retune; fractions, not percent."""

    dense: float | None = None
    pruned: float | None = None
    final: float | None = None


class MainScores(Scores):
    """The scores of the task's main metric."""

    name: str | None = None  # one of its outcome's metrics


class Calibration(Part):
    """How far the final model's probabilities are from how often it is right."""

    ece: float | None = None  # expected calibration error on the validation split, a fraction
    ece_raw: float | None = None  # the same before the temperature
    temperature: float | None = None  # fitted on the selection slice
    # Of several labels per text: the probability above which a label is given, chosen there, too.
    threshold: float | None = None


class Params(Part):
    """Parameters of the dense model and of the final one; filled by the end of a job."""

    block_before: int | None = None  # weights and biases of attention and FFN linears in use
    block_after: int | None = None
    block_pruned: float | None = None  # fraction removed
    all_before: int | None = None
    all_after: int | None = None
    all_pruned: float | None = None


class Flops(Part):
    """Floating-point operations of one text."""

    before: float | None = None
    after: float | None = None
    ratio: float | None = None


class Latency(Part):
    """The timing of both models; filled by benchmark."""

    batch: int | None = None
    seq_len: int | None = None
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None
    dense_ms: float | None = None  # per batch
    final_ms: float | None = None
    speedup: float | None = None
    spread: float | None = None
    contended: bool | None = None  # under other load: never shown as a speed-up


class Choice(Part):
    """The model that ``prune.within`` found; filled by no other job."""

    model: str | None = None  # as in frontier.csv, such as "90 % cut, int8"
    ms: float | None = None  # of one text, on one thread
    texts_per_s: float | None = None


class Result(Part):
    """The fields of ``result.json``.

    Example:
        >>> result = Result(task="rte", seed=1, metric=MainScores(name="accuracy", final=0.6))
        >>> result.metric.final
        0.6
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    job_id: str = ""
    status: Literal["done", "failed"] = "done"
    error: str | None = None
    sweep: str | None = None  # group
    task: str | None = None
    backbone: str | None = None
    backbone_note: str | None = None  # what a reader must know: "distilled from MiniLM ..."
    seed: int | None = None
    start: str | None = None  # the skill that tuning started from; None: a new prompt
    attribution: str | None = None  # name of the method; its options are in `config`
    ratio: float | None = None  # asked for, or found
    precision: str | None = None  # of the trainers, `auto` resolved
    epochs: int | None = None  # of re-tuning, at most
    data_source: str | None = None  # local:<dir> | hub:<id> | embedded:<name>
    data_is_sample: bool = False
    data_hash: str | None = None  # of the texts and labels that were read
    duplicates: int | None = None  # validation rows whose texts are also in train or select
    dropped: int | None = None  # rows left out: bad ones, and duplicates in train or select
    train_rows: int | None = None  # drawn for train and its slice; None: all there are
    n_train: int | None = None  # rows that were trained on, without the selection slice
    n_eval: int | None = None  # validation rows
    majority: dict[str, float] = {}  # {metric: score of always answering the majority class}
    metric: MainScores = MainScores()  # on the validation split
    metrics: dict[str, Any] = {}  # {metric: Scores}; extra: {split: {metric: Scores}}
    select: Scores = Scores()  # the main metric on the selection slice
    calibration: Calibration = Calibration()
    params: Params = Params()
    flops: Flops = Flops()
    keep_sizes: dict[str, list[int]] = {}  # {site: [kept, of]}
    choice: Choice = Choice()
    latency: Latency = Latency()
    seconds: dict[str, float] = {}  # {phase: seconds}, total
    cache: dict[str, str] = {}  # {tune, attribution: hit | miss}
    skill: str | None = None  # folder, relative to the file where it lies beside it
    skill_bytes: int | None = None
    config: dict[str, Any] = {}  # resolved
    versions: dict[str, str] = {}
    git_commit: str | None = None
    finished: str = ""  # UTC, ISO 8601
    path: str | None = Field(default=None, exclude=True)  # set by `load`: where the file lies

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as in the file."""
        return self.model_dump(by_alias=True)

    def replace(self, **fields: Any) -> "Result":
        """A copy with other values of some fields, which are checked."""
        return Result(**self.to_dict() | fields)


def from_config(cfg: Mapping[str, Any], **fields: Any) -> Result:
    """A new result, of a job done or failed: what its configuration and this machine determine.

    Args:
        cfg: plain containers. A ratio that is no number is left out: the job may have failed by it.
        fields: further fields.
    """
    known = {key: value for key, value in join_keys(cfg, ".").items() if value != "???"}
    get: Callable[[str], Any] = known.get
    ratio = get("prune.ratio")
    parts = [str(get(key) or "") for key in PARTS]
    versions = {
        "code": job_code(),
        "parts": parts_code(*parts),
        "skip_exp": __version__,
    }
    for name in PACKAGES:
        version = find_version(name)
        if version:
            versions[name] = version
    determined = {
        "sweep": get("sweep.id"),
        "task": get("task.name"),
        "backbone": get("backbone.name"),
        "seed": get("seed"),
        "attribution": method_name(get("attribution._target_")),
        "ratio": ratio if isinstance(ratio, int | float) else None,
        "data_source": get("data.source"),
        "train_rows": get("data.train_rows"),
        "config": dict(cfg),
        "versions": versions,
        "git_commit": git_commit(),
        "finished": now(),
    }
    return Result(**determined | fields)


def now() -> str:
    """The time for the field ``finished``."""
    return datetime.now(UTC).isoformat("T", "seconds")


def write(folder: Path | str, result: Result) -> Path:
    """Write ``folder/result.json`` whole or not at all (temporary file, then rename).

    Raises:
        SkipError: the folder holds another job's finished result, or cannot be written.
    """
    path = Path(folder) / FILE
    check_folder(folder, result.job_id)
    content = result.model_dump_json(indent=1, by_alias=True) + "\n"
    files.save(path, content.encode(), f"output_dir={folder}: {FILE}")
    return path


def check_folder(folder: Path | str, job_id: str) -> None:
    """Raise SkipError where ``folder`` holds the finished result of another job."""
    earlier = read_finished(folder)
    if earlier and earlier.get("job_id") != job_id:
        raise SkipError(f"output_dir={folder}: holds the finished result of another job")


def read_finished(folder: Path | str) -> dict[str, Any] | None:
    """The finished result in ``folder``, of any schema and unchecked; None where there is none."""
    try:
        result: dict[str, Any] = json.loads((Path(folder) / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("status") == "done" else None


def write_failed(folder: Path | str, cfg: Mapping[str, Any], error: str) -> None:
    """Record a failed job with the fields that its config (plain containers) determines.

    A finished result that is already in the folder stays.
    """
    if read_finished(folder):
        log.warning("keeping finished %s; later error: %s", Path(folder) / FILE, error)
    else:
        write(folder, from_config(cfg, status="failed", error=" ".join(error.split())))


@contextmanager
def record_failure(folder: Path | str, cfg: Mapping[str, Any]) -> Iterator[None]:
    """Within the block a job runs, whose failure is recorded in ``folder``.

    Args:
        cfg: the job's configuration, plain containers.
    """
    try:
        yield
    except Exception as problem:
        error = describe_failure(problem)
        log.debug(error, exc_info=problem)  # DEBUG goes to the job's log file only
        with suppress(SkipError):  # a folder that cannot be written
            write_failed(folder, cfg, error)
        if isinstance(problem, SkipError):
            problem.in_job = True
        raise


def run_recorded(run: Callable[[Any], Any], cfg: Any) -> Any:
    """``run(cfg)`` of a job's configuration, under :func:`record_failure`."""
    with record_failure(cfg.output_dir, asdict(cfg)):
        return run(cfg)


def load(paths: Path | str | Iterable[Path | str]) -> list[Result]:
    """Results below the folders (or in the files) given, each with its ``path``, in path order.

    Files that are no readable result are skipped, and named in one warning.
    """
    roots = [paths] if isinstance(paths, str | Path) else paths
    paths_once: dict[Path, None] = {}  # roots may lie in each other
    for root in roots:
        folder = Path(root)
        # Unlike rglob, glob leaves out hidden folders, such as those of a save that was killed.
        names = sorted(glob(f"**/{FILE}", root_dir=folder, recursive=True))
        files_below = [folder / name for name in names] if folder.is_dir() else [folder]
        paths_once |= dict.fromkeys(files_below)
    loaded = []
    unreadable = []
    # One damaged file must not hide the results beside it.
    for file in paths_once:
        try:
            loaded.append(_read(file))
        except (OSError, ValueError):
            unreadable.append(str(file))
    if unreadable:
        log.warning("skipped, not a readable result: %s", ", ".join(unreadable))
    return loaded


def _read(file: Path) -> Result:
    """Raises OSError, ValueError: it is no JSON, or no result."""
    stored = json.loads(file.read_bytes())
    if not isinstance(stored, dict) or "status" not in stored:
        raise ValueError("no result")
    return Result.model_validate(stored | {"path": str(file)})


def flatten(result: Result | Mapping[str, Any]) -> dict[str, Any]:
    """W&B summary: nested fields joined by ``/`` (``metric/final``), unset ones left out.

    ``config`` is left out: W&B has a place for it. A keep size gives ``<site>/kept`` and ``/of``.
    Of a contended timing only ``latency/contended`` is left: no chart, table or search uses it.
    """
    fields = dict(result.to_dict() if isinstance(result, Result) else result)
    fields.pop("config", None)
    flat: dict[str, Any] = {}
    for key, value in join_keys(fields, "/").items():
        if key.startswith("keep_sizes/"):
            size, total = value
            flat[f"{key}/kept"] = size
            flat[f"{key}/of"] = total
        elif value is not None:
            flat[key] = value
    if flat.get("latency/contended"):
        for name in Latency.model_fields.keys() - {"contended"}:
            flat.pop(f"latency/{name}", None)
    return flat


def join_keys(fields: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Nested fields as one level: ``{"a": {"b": 1}}`` as ``{"a/b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            for inner, item in join_keys(value, separator).items():
                flat[f"{key}{separator}{inner}"] = item
        else:
            flat[key] = value
    return flat


def next_steps(result: Result) -> str:
    """What ends a job's output: its skill with the size, and commands that use it.

    Args:
        result: a finished one, from `load`.
    """
    skill = Path(os.path.relpath(Path(str(result.path)).parent / str(result.skill)))
    texts = ['"TEXT"' for _ in result.config.get("task", {}).get("text", ["text"])]
    small = shlex.quote(f"{result.task}-small")
    return (
        f"skill:   {skill} ({decimal(result.skill_bytes or 0)})\n"
        f"predict: skip-exp predict {shlex.quote(str(skill))} {' '.join(texts)}\n"
        f"export:  skip-exp export {shlex.quote(str(skill))} {small} --format onnx --int8"
    )
