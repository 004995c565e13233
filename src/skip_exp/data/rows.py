"""From a table in the task's own columns to texts and integer labels; refuses what does not fit."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.spec import columns, fill
from skip_exp.errors import DataError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Split:
    """One split, column-wise; ``text_b`` is None for a single-text task."""

    text_a: list[str]
    text_b: list[str] | None
    label: list[int]

    def __len__(self) -> int:
        return len(self.label)


def read_table(path: Path) -> pd.DataFrame:
    """Read a .jsonl, .json (lines or one array), .csv or .parquet file, texts left as they are.

    Raises:
        DataError: the file is missing, of another kind or cannot be parsed.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"cannot read {path}: its name must end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            # No guessing of types or of missing values: "NA" and "007" are texts.
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        return _read_json(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as err:  # the parsers' own errors are ValueErrors
        raise DataError(f"cannot read {path}: {_one_line(err)}") from err


def _read_json(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        lines = path.suffix == ".jsonl" or file.read(1) != "["
        file.seek(0)
        return pd.read_json(file, lines=lines, dtype=False, convert_dates=False)


def _one_line(err: Exception) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def to_split(table: pd.DataFrame, spec: TaskConfig, split: str, where: str) -> Split:
    """Check a table and fill the task's texts.

    Args:
        table: the rows in the task's own columns.
        where: what the table was read from, for the messages.

    Raises:
        DataError: no rows, a column missing, an empty cell, or a label outside the names.
    """
    if table.empty:
        raise DataError(f"task {spec.name}: split {split} of {where} has no rows")
    for column in (*columns(spec), spec.label):
        if column not in table.columns:
            has = ", ".join(map(str, table.columns))
            raise DataError(f"task {spec.name}: no column {column!r} in {where} (it has: {has})")
    texts = {column: _texts(table, column, where) for column in columns(spec)}
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    filled_entries = [[fill(entry, row) for row in rows] for entry in spec.text]
    labels = [
        _label(value, spec, row, where) for row, value in enumerate(table[spec.label].tolist(), 1)
    ]
    return Split(filled_entries[0], filled_entries[1] if spec.pair else None, labels)


def _texts(table: pd.DataFrame, column: str, where: str) -> list[str]:
    missing = table[column].isna()
    if missing.any():
        row = int(missing.to_numpy().argmax()) + 1
        raise DataError(f"row {row} of {where} has nothing in column {column!r}")
    return [str(value) for value in table[column].tolist()]


def _label(value: Any, spec: TaskConfig, row: int, where: str) -> int:
    """Index of a label given as an index or by name (in CSV an index is text too)."""
    if value in spec.labels:
        return spec.labels.index(value)
    try:
        index = int(value)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < spec.num_labels or (isinstance(value, float) and index != value):
        raise DataError(
            f"row {row} of {where}: label {value!r} in column {spec.label!r} is neither "
            f"0 to {spec.num_labels - 1} nor one of {', '.join(spec.labels)}"
        )
    return index


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Hash of texts, labels and split names: equal content is equal wherever it was read from."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for part in (name, split.text_a, split.text_b, split.label):
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
