"""Reads a task's rows from local files, the hub or the rows that come with the package."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.files import (
    EMBEDDED,
    ENV_DIR,
    SELECT,
    STAND_IN,
    SUFFIXES,
    embedded_files,
    local_files,
    split_file,
)
from skip_exp.data.rows import Split, fingerprint, to_split
from skip_exp.data.splits import NOT_APART, stratified
from skip_exp.data.tables import read_table
from skip_exp.data.text import columns_of
from skip_exp.errors import DataError
from skip_exp.utils import hub
from skip_exp.utils.files import Stamp, stamp

log = logging.getLogger(__name__)

MIN_TRAIN = 20  # fewer rows leave almost nothing for the selection slice

Tables = dict[str, tuple[pd.DataFrame, str]]  # split: rows, where they were read from


class NotFound(DataError):
    """A source does not have the task; ``auto`` tries the next one."""


@dataclass(frozen=True)
class RawTask:
    """A task's texts and labels."""

    spec: TaskConfig
    splits: dict[str, Split]
    source: str  # local:<dir> | hub:<id> | embedded:<name>
    fingerprint: str  # see rows.fingerprint
    read: str = ""  # the same of the rows as they were read, before any were set apart or dropped
    dropped: int = 0  # rows left out: bad ones, and duplicates in train

    @property
    def is_sample(self) -> bool:
        """Whether rows of another data set stand in for the task's own."""
        return self.source == STAND_IN


def load_task(
    spec: TaskConfig,
    source: str,
    dir: str | None,
    *,
    seed: int = 1,
    drop_bad: bool = False,
    deduplicate: bool = False,
) -> RawTask:
    """Read every split of a task.

    Args:
        source: one of ``local``, ``hub`` and ``embedded``, or ``auto`` to try them in this order.
        dir: folder with ``<task>/<split>.jsonl``; None reads the environment's SKIP_EXP_DATA.
        seed: draws the validation split of a task whose files have none.
        drop_bad: leave out rows that do not fit, instead of refusing all.
        deduplicate: drop train rows whose texts are scored or choose an epoch, too.

    Raises:
        DataError: no source has the task, or its rows do not fit the task's description.
    """
    tables, found_source, reasons = _find(spec, source, dir)
    splits = {
        name: to_split(table, spec, name, where, drop_bad)
        for name, (table, where) in tables.items()
    }
    read = fingerprint(splits)
    if spec.validation not in splits:
        splits = _set_apart(spec, splits, seed)
    dropped = sum(split.dropped for split in splits.values())
    if deduplicate:
        splits, repeated = _without_duplicates(spec, splits)
        dropped += repeated
    raw = RawTask(spec, splits, found_source, fingerprint(splits), read, dropped)
    _check_train(spec, splits[spec.train].label, tables[spec.train][1])
    if raw.is_sample:
        why = f": {'; '.join(reasons)}" if reasons else ""
        log.warning("data: SNLI pairs stand in for %s, no score is of %s%s", *[spec.name] * 2, why)
    return raw


def _find(spec: TaskConfig, source: str, dir: str | None) -> tuple[Tables, str, list[str]]:
    """Tables of the first source that has the task, its name, and why earlier ones failed."""
    readers: dict[str, Callable[[], tuple[Tables, str]]] = {
        "local": lambda: _local(spec, dir),
        "hub": lambda: _hub(spec),
        "embedded": lambda: _embedded(spec),
    }
    reasons: list[str] = []
    for read in readers.values() if source == "auto" else [readers[source]]:
        try:
            return (*read(), reasons)
        except NotFound as err:
            reasons.append(str(err))
    advice = f"set data.dir or {ENV_DIR} to a folder that has {spec.name}/{spec.train}.jsonl"
    raise DataError(f"task {spec.name} not found: {'; '.join(reasons)} ({advice})")


def _set_apart(spec: TaskConfig, splits: dict[str, Split], seed: int) -> dict[str, Split]:
    """Make a validation split of train rows, where a task has none."""
    train = splits.pop(spec.train)
    held = stratified(train.label, train.units, seed)
    rest = sorted({*range(len(train))} - {*held})
    message = "data: no %s file: %d of %d train rows are set apart, stratified, by seed %d"
    log.info(message, spec.validation, len(held), len(train), seed)
    if not held:
        raise DataError(f"task {spec.name}: {NOT_APART}: give task.files.{spec.validation}")
    made = replace(train.take(held), dropped=0)
    return {spec.train: train.take(rest), spec.validation: made, **splits}


def _without_duplicates(spec: TaskConfig, splits: dict[str, Split]) -> tuple[dict[str, Split], int]:
    """The splits without train rows that are scored as well, and how many these were."""
    train = splits[spec.train]
    known = {texts for name in splits if name != spec.train for texts in splits[name].texts}
    kept = [row for row, texts in enumerate(train.texts) if texts not in known]
    if dropped := len(train) - len(kept):
        log.info("data: dropped %d train rows that are also scored", dropped)
    return splits | {spec.train: train.take(kept)}, dropped


def _check_train(spec: TaskConfig, labels: list[int], where: str) -> None:
    if len(labels) < MIN_TRAIN:
        raise DataError(
            f"task {spec.name}: {len(labels)} train rows in {where}, must be at least {MIN_TRAIN} "
            "(every tenth is held out for selection)"
        )
    present = set(labels)
    if len(present) == 1:
        raise DataError(
            f"task {spec.name}: all {len(labels)} train rows of {where} have the label "
            f"{spec.labels[present.pop()]!r}; training needs at least two labels"
        )
    if absent := [name for i, name in enumerate(spec.labels) if i not in present]:
        log.warning("data: no train row of %s has the label %s", where, " or ".join(absent))


def local_stamp(spec: TaskConfig, dir: str | None) -> Stamp:
    """Stamp of the task's local files, unchanged while none of them changes."""
    return stamp(*local_files(spec, dir).values())


def _local(spec: TaskConfig, dir: str | None) -> tuple[Tables, str]:
    if spec.files:
        for name in (spec.train, *spec.extra):  # without a validation file, rows are set apart
            if name not in spec.files:
                has = ", ".join(spec.files)
                raise DataError(f"task {spec.name}: task.files: no split {name!r} (it has: {has})")
        names = [name for name in (*spec.splits, SELECT) if name in spec.files]
        paths = {name: Path(spec.files[name]).expanduser() for name in names}
        source = str(paths[spec.train].parent)
    else:
        key, source = ("data.dir", dir) if dir else (ENV_DIR, os.environ.get(ENV_DIR, ""))
        folder = _task_folder(spec, key, source)
        paths = {name: _split_file(folder, spec, name) for name in spec.splits}
        if select := split_file(folder, spec, SELECT):
            paths[SELECT] = select
    return _tables(spec, paths), f"local:{source}"


def _embedded(spec: TaskConfig) -> tuple[Tables, str]:
    paths = embedded_files(spec)
    if not paths:
        raise NotFound(f"the package comes with rows for {' and '.join(EMBEDDED)} only")
    return _tables(spec, paths), f"embedded:{EMBEDDED[spec.name]}"


def _tables(spec: TaskConfig, paths: dict[str, Path]) -> Tables:
    own = columns_of(spec.text, spec.label)
    group = {spec.train: [spec.group] if spec.group else []}
    wanted = {name: tuple(dict.fromkeys([*own, *group.get(name, [])])) for name in paths}
    return {name: (read_table(path, wanted[name]), str(path)) for name, path in paths.items()}


def _task_folder(spec: TaskConfig, key: str, data_dir: str) -> Path:
    if not data_dir:
        raise NotFound(f"neither data.dir nor {ENV_DIR} is set")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise DataError(f"{key}={data_dir}: must be a folder")
    if not (root / spec.name).is_dir():
        raise NotFound(f"{key}={data_dir} has no folder {spec.name}")
    return root / spec.name


def _split_file(folder: Path, spec: TaskConfig, split: str) -> Path:
    if path := split_file(folder, spec, split):
        return path
    has = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
    allowed = ", ".join(f"{split}{suffix}" for suffix in SUFFIXES)
    raise DataError(f"task {spec.name}: {folder} has none of {allowed} (it has: {has})")


def _hub(spec: TaskConfig) -> tuple[Tables, str]:
    """Reads the Hugging Face cache first, without network access, then the hub."""
    if not spec.hub:
        raise NotFound("task.hub is not set")
    name = "/".join(spec.hub.values())
    try:
        with hub.offline():
            splits = _load_dataset(spec)
    except Exception as cached:  # datasets raises many kinds of errors for "not cached"
        log.debug("%s is not in the Hugging Face cache: %s", name, cached)
        if not hub.hub_reachable():
            raise NotFound(f"hub unreachable and {name} is not in the Hugging Face cache") from None
        try:
            splits = _load_dataset(spec)
        except Exception as err:  # a reachable hub that fails must not fall back to a stand-in
            why = hub.explain(err, f"datasets/{spec.hub['path']}")
            raise DataError(f"task {spec.name}: task.hub={name}: {why}") from err
    for split in spec.splits:
        if split not in splits:
            has = ", ".join(splits)
            raise DataError(f"task {spec.name}: no split {split!r} in {name} (it has: {has})")
    return {s: (_named(splits[s], spec), f"{name} {s}") for s in spec.splits}, f"hub:{name}"


def _named(split: Any, spec: TaskConfig) -> pd.DataFrame:
    """A split's rows; labels become names where the data set has the task's names."""
    table: pd.DataFrame = split.to_pandas()
    names = getattr(split.features.get(spec.label), "names", [])
    if set(names) == set(spec.labels):
        table[spec.label] = [
            names[int(i)] if i in range(len(names)) else i for i in table[spec.label]
        ]
    return table


def _load_dataset(spec: TaskConfig):  # type: ignore[no-untyped-def]
    import datasets  # takes a second, not needed for local files

    datasets.logging.set_verbosity_error()  # else reading the cache warns about the hub
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets.load_dataset(spec.hub["path"], spec.hub.get("name"))
