"""Reads a task's rows from local files, the hub or the rows that come with the package."""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig
from skip_exp.data.given import columns_of, dataset_to_table, read_class_names
from skip_exp.data.read import SUFFIXES, Table, read_table
from skip_exp.data.rows import (
    SELECT,
    STAND_IN,
    Rows,
    Splits,
    check_train,
    cut_slice,
    draw_rows,
    get_labels,
    get_texts,
    hash_rows,
    separate,
    set_apart,
    to_rows,
    warn_of_conflicts,
)
from skip_exp.errors import DataError
from skip_exp.utils import hub

log = logging.getLogger(__name__)

EMBEDDED_ROWS = Path(__file__).parent / "embedded"
EMBEDDED_TASKS = {"banking77": "banking77", "rte": "snli_pairs"}  # task: its folder in embedded/

Tables = dict[str, Table]  # by split


class NotFound(DataError):
    """A source does not have the task; ``auto`` tries the next one."""


def load_rows(spec: TaskConfig, data: DataConfig, seed: int = 1) -> Rows:
    """Read every split of a task and set apart what it has no split for.

    Args:
        seed: draws ``data.train_rows``, and the validation split of a task whose files have none.

    Raises:
        DataError: no source has the task, or its rows do not fit the task's description.
    """
    tables, source, reasons = _find(spec, data)
    splits: Splits = {}
    count = 0
    for name, table in tables.items():
        rows = to_rows(table, spec, name, data.drop_bad)
        warn_of_conflicts(table, rows)
        splits[name] = list(rows.values())
        count += len(table.rows)
    # Before the seed takes part, so that it is equal for every seed.
    read = hash_rows(splits)
    if spec.validation not in splits:
        splits = set_apart(spec, splits, seed)
    # Repeated rows go first, so that the slice is every tenth of the rows that stay.
    splits = separate(spec, splits, data.deduplicate)
    dropped = count - sum(map(len, splits.values()))
    if data.train_rows is not None:  # before the slice, so that no other label is known
        splits[spec.train] = draw_rows(splits[spec.train], data.train_rows, seed)
    check_train(spec, splits[spec.train], tables[spec.train].where)
    train, select = cut_slice(spec, splits)
    if source == STAND_IN:
        log.warning("data: SNLI pairs stand in for %s: %s", spec.name, "; ".join(reasons))
    seen = set(get_texts(splits[spec.train] + splits.get(SELECT, [])))
    return Rows(
        spec=spec,
        train=train,
        select=select,
        validation=splits[spec.validation],
        extra={name: splits[name] for name in spec.extra},
        source=source,
        fingerprint=hash_rows(splits),
        read=read,
        dropped=dropped,
        duplicates=sum(texts in seen for texts in get_texts(splits[spec.validation])),
        majority=score_majority(spec, get_labels(splits[spec.validation])),
    )


def score_majority(spec: TaskConfig, labels: Sequence[Any]) -> dict[str, float]:
    """Scores of always predicting the most frequent of the labels, keyed by metric.

    Example: of the labels 0, 1, 1, 1 it has accuracy 0.75 and F1 0.857.
    """
    true = np.array(labels)
    answers = spec.outcome.always(true, spec.num_labels)
    return spec.outcome.score(spec.metrics, answers, true, bound=0.0)


def _find(spec: TaskConfig, data: DataConfig) -> tuple[Tables, str, list[str]]:
    """Tables of the first source that has the task, its name, and why earlier ones failed."""
    readers: dict[str, Callable[[], tuple[Tables, str]]] = {
        "local": lambda: _local(spec, data),
        "hub": lambda: _hub(spec),
        "embedded": lambda: _read_embedded(spec),
    }
    reasons: list[str] = []
    names = list(readers) if data.source == "auto" else [data.source]
    for name in names:
        try:
            tables, source = readers[name]()
            return tables, source, reasons
        except NotFound as err:
            reasons.append(str(err))
    raise DataError(
        f"task {spec.name} not found: {'; '.join(reasons)} "
        f"(set SKIP_EXP_DATA, or data.dir, to a folder that has {spec.name}/{spec.train}.jsonl)"
    )


def local_files(spec: TaskConfig, dir: str | None) -> dict[str, Path]:
    """The files of a task's splits: {split: file}, those of a folder as far as they exist.

    Args:
        dir: folder laid out as ``<dir>/<task>/<split>.jsonl``; None: there is none.
    """
    files: dict[str, Path] = {}
    for split in (*spec.splits, SELECT):
        if split in spec.files:
            files[split] = Path(spec.files[split]).expanduser()
        elif dir and not spec.files:
            # A validation split that the hub calls otherwise may be named ``validation``, too.
            names = (split, "validation") if split == spec.validation else (split,)
            folder = Path(dir).expanduser() / spec.name
            for name, suffix in product(names, SUFFIXES):
                file = folder / f"{name}{suffix}"
                if split not in files and file.exists():
                    files[split] = file
    return files


def _local(spec: TaskConfig, data: DataConfig) -> tuple[Tables, str]:
    paths = local_files(spec, data.dir)
    if spec.files:
        # Without a validation file, rows are set apart.
        _check_splits(spec, [spec.train, *spec.extra], paths, "task.files")
        return _read_files(spec, paths, data), f"local:{paths[spec.train].parent}"
    if not data.dir:
        raise NotFound("data.dir is not set, nor is SKIP_EXP_DATA")
    root = Path(data.dir).expanduser()
    if not root.is_dir():
        raise DataError(f"data.dir={data.dir}: must be a folder")
    folder = root / spec.name
    if not folder.is_dir():
        raise NotFound(f"data.dir={data.dir} has no folder {spec.name}")
    files = ", ".join(sorted(os.listdir(folder)))
    _check_splits(spec, spec.splits, paths, f"{folder} with the files {files or '(none)'}")
    return _read_files(spec, paths, data), f"local:{data.dir}"


def _check_splits(spec: TaskConfig, wanted: Iterable[str], has: Iterable[str], where: str) -> None:
    for name in wanted:
        if name not in has:
            raise DataError(
                f"task {spec.name}: no split {name!r} in {where} (it has: {', '.join(has)})"
            )


def _read_embedded(spec: TaskConfig) -> tuple[Tables, str]:
    name = EMBEDDED_TASKS.get(spec.name)
    if name is None or spec.extra:
        raise NotFound(f"the package comes with rows for {' and '.join(EMBEDDED_TASKS)} only")
    paths = {
        spec.train: EMBEDDED_ROWS / name / "train.parquet",
        spec.validation: EMBEDDED_ROWS / name / "validation.parquet",
    }
    return _read_files(spec, paths, DataConfig()), f"embedded:{name}"


def _read_files(spec: TaskConfig, paths: dict[str, Path], data: DataConfig) -> Tables:
    return {
        name: read_table(path, _want(spec, name), data.sep, data.encoding)
        for name, path in paths.items()
    }


def _want(spec: TaskConfig, split: str) -> list[str]:
    """The columns of a split that a job reads."""
    group = [spec.group] if spec.group and split == spec.train else []
    return columns_of(spec.text, *spec.label_columns, *group)


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
            reason = hub.explain_failure(err, f"datasets/{spec.hub['path']}")
            raise DataError(f"task {spec.name}: task.hub={name}: {reason}") from err
    _check_splits(spec, spec.splits, splits, name)
    # Indices become names where names are equal: the task may order its labels otherwise.
    tables: Tables = {}
    for split in spec.splits:
        data = splits[split]
        classes = read_class_names(data, spec.label)
        if set(classes or []) != set(spec.labels):
            classes = None  # the task has names of its own, in label order
        tables[split] = dataset_to_table(
            data, _want(spec, split), f"{name} {split}", spec.label, classes
        )
    return tables, f"hub:{name}"


def _load_dataset(spec: TaskConfig):  # type: ignore[no-untyped-def]
    import datasets  # takes a second, not needed for local files

    datasets.logging.set_verbosity_error()  # else reading the cache warns about the hub
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets.load_dataset(spec.hub["path"], spec.hub.get("name"))
