"""Where a task's rows come from: local files, the hub or the generated sample."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.local import ENV_DIR, local_files, split_file
from skip_exp.data.rows import Split, fingerprint, to_split
from skip_exp.data.sample import sample_tables
from skip_exp.data.spec import columns
from skip_exp.data.tables import read_table
from skip_exp.errors import ConfigError, DataError
from skip_exp.utils import hub
from skip_exp.utils.files import Stamp, stamp

log = logging.getLogger(__name__)

SOURCES = ("auto", "local", "hub", "sample")
MIN_TRAIN = 20  # fewer rows leave next to nothing in the selection slice

Tables = dict[str, tuple[pd.DataFrame, str]]  # split: rows, what they were read from


class NotFound(DataError):
    """A source does not have the task: `auto` goes on to the next one."""


@dataclass(frozen=True)
class RawTask:
    """A task's texts and labels as read."""

    spec: TaskConfig
    splits: dict[str, Split]
    source: str  # local:<dir> | hub:<id> | sample
    fingerprint: str  # of the content, see rows.fingerprint

    @property
    def is_sample(self) -> bool:
        return self.source == "sample"


def load_task(spec: TaskConfig, source: str, dir: str | None, *, allow_sample: bool) -> RawTask:
    """Read every split of a task.

    Args:
        source: ``auto`` tries local files, then the hub, then, if ``allow_sample``, the sample.
        dir: folder laid out as ``<dir>/<task>/<split>.jsonl``; None = environment SKIP_EXP_DATA.
        allow_sample: whether ``auto`` may end on generated data.

    Raises:
        ConfigError: unknown source.
        DataError: no source has the task, or what was found does not fit its description.
    """
    if source not in SOURCES:
        raise ConfigError("data.source", source, f"must be one of {', '.join(SOURCES)}")
    tables, found_source, reasons = _find(spec, source, dir, allow_sample)
    raw = _check(spec, tables, found_source)
    if raw.is_sample and reasons:
        log.warning("data: generated stand-in, NOT the real %s: %s", spec.name, "; ".join(reasons))
    sizes = ", ".join(f"{name} {len(split)}" for name, split in raw.splits.items())
    log.info("data: %s from %s (rows: %s)", spec.name, raw.source, sizes)
    return raw


def _find(
    spec: TaskConfig, source: str, dir: str | None, allow_sample: bool
) -> tuple[Tables, str, list[str]]:
    """The first source that has the task, its name, and why the ones before it do not."""
    readers: dict[str, Callable[[], tuple[Tables, str]]] = {
        "local": lambda: _local(spec, dir),
        "hub": lambda: _hub(spec),
        "sample": lambda: (sample_tables(spec), "sample"),
    }
    if source != "auto":
        readers = {source: readers[source]}
    elif not allow_sample:
        del readers["sample"]
    reasons: list[str] = []
    for read in readers.values():
        try:
            return (*read(), reasons)
        except NotFound as err:
            reasons.append(str(err))
    advice = "set data.dir to a folder that has it, or data.source=sample for generated rows"
    raise DataError(f"task {spec.name} not found: {'; '.join(reasons)} ({advice})")


def _check(spec: TaskConfig, tables: Tables, source: str) -> RawTask:
    splits = {name: to_split(table, spec, name, where) for name, (table, where) in tables.items()}
    if len(splits[spec.train]) < MIN_TRAIN:
        raise DataError(
            f"task {spec.name}: {len(splits[spec.train])} train rows in {tables[spec.train][1]}, "
            f"at least {MIN_TRAIN} are needed (every tenth is kept for selection)"
        )
    _check_classes(spec, splits[spec.train].label, tables[spec.train][1])
    return RawTask(spec, splits, source, fingerprint(splits))


def _check_classes(spec: TaskConfig, labels: list[int], where: str) -> None:
    present = set(labels)
    if len(present) == 1:
        raise DataError(
            f"task {spec.name}: all {len(labels)} train rows of {where} have the label "
            f"{spec.labels[present.pop()]!r}; rows of two labels or more are needed"
        )
    if absent := [name for i, name in enumerate(spec.labels) if i not in present]:
        log.warning("data: no train row of %s has the label %s", where, " or ".join(absent))


def local_stamp(spec: TaskConfig, dir: str | None) -> Stamp:
    """Of the local files that the task may be read from: equal while none of them changes."""
    return stamp(*local_files(spec, dir).values())


def _local(spec: TaskConfig, dir: str | None) -> tuple[Tables, str]:
    if spec.files:
        return _files(spec)
    key, data_dir = ("data.dir", dir) if dir else (ENV_DIR, os.environ.get(ENV_DIR))
    if not data_dir:
        raise NotFound(f"neither data.dir nor {ENV_DIR} is set")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"{key}={data_dir}: not a folder")
    folder = root / spec.name
    if not folder.is_dir():
        raise NotFound(f"{key}={data_dir} has no folder {spec.name}")
    return {
        name: _table(_split_file(folder, spec, name), spec) for name in spec.splits
    }, f"local:{data_dir}"


def _split_file(folder: Path, spec: TaskConfig, split: str) -> Path:
    if path := split_file(folder, split):
        return path
    has = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
    raise DataError(
        f"task {spec.name}: no {split}.jsonl, .json, .csv or .parquet in {folder} (it has: {has})"
    )


def _files(spec: TaskConfig) -> tuple[Tables, str]:
    for name in spec.splits:
        if name not in spec.files:
            has = ", ".join(spec.files)
            raise DataError(f"task {spec.name}: task.files has no split {name!r} (it has: {has})")
    paths = {name: Path(spec.files[name]).expanduser() for name in spec.splits}
    return {
        name: _table(path, spec) for name, path in paths.items()
    }, f"local:{paths[spec.train].parent}"


def _table(path: Path, spec: TaskConfig) -> tuple[pd.DataFrame, str]:
    return read_table(path, (*columns(spec), spec.label)), str(path)


def _hub(spec: TaskConfig) -> tuple[Tables, str]:
    """The Hugging Face cache first (no network, no waiting), then the hub itself."""
    if not spec.hub:
        raise NotFound("task.hub is not set")
    name = "/".join(spec.hub.values())
    try:
        with hub.offline():
            splits = _load_dataset(spec)
    except Exception as cached:  # not cached; datasets has many ways to say so
        log.debug("%s is not in the Hugging Face cache: %s", name, cached)
        if not hub.hub_reachable():
            raise NotFound(f"hub unreachable and {name} is not in the Hugging Face cache") from None
        try:
            splits = _load_dataset(spec)
        except Exception as err:  # the same; a hub that is there and fails is no leave for a sample
            why = hub.explain(err, f"datasets/{spec.hub['path']}")
            raise DataError(f"task {spec.name}: task.hub={name}: {why}") from err
    for split in spec.splits:
        if split not in splits:
            has = ", ".join(splits)
            raise DataError(f"task {spec.name}: no split {split!r} in {name} (it has: {has})")
    return {s: (_named(splits[s], spec), f"{name} {s}") for s in spec.splits}, f"hub:{name}"


def _named(split: Any, spec: TaskConfig) -> pd.DataFrame:
    """A split's rows; labels by name where the data set has the task's names, in any order."""
    table: pd.DataFrame = split.to_pandas()
    names = getattr(split.features.get(spec.label), "names", [])
    if set(names) == set(spec.labels):
        table[spec.label] = [names[i] if i in range(len(names)) else i for i in table[spec.label]]
    return table


def _load_dataset(spec: TaskConfig):  # type: ignore[no-untyped-def]  # datasets is imported late
    import datasets  # a second of import, not needed for local files

    datasets.logging.set_verbosity_error()  # else a cache hit warns of a hub that was not asked
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets.load_dataset(spec.hub["path"], spec.hub.get("name"))
