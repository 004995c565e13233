"""From a table in the task's own columns to texts and integer labels; refuses what does not fit."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.spec import columns
from skip_exp.data.tables import check_columns
from skip_exp.data.text import fill, shown, text_of
from skip_exp.errors import DataError

_WHOLE = re.compile(r"^(\d+)\.0+$")  # an index among floats: 1.0


@dataclass(frozen=True)
class Split:
    """One split, column-wise; ``text_b`` is None for a single-text task."""

    text_a: list[str]
    text_b: list[str] | None
    label: list[int]

    def __len__(self) -> int:
        return len(self.label)


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
    check_columns(list(table.columns), (*columns(spec), spec.label), where)
    texts = {column: _texts(table, column, where) for column in columns(spec)}
    rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    filled_entries = [[fill(entry, row) for row in rows] for entry in spec.text]
    labels = _labels(table[spec.label].tolist(), spec, where)
    return Split(filled_entries[0], filled_entries[1] if spec.pair else None, labels)


def _texts(table: pd.DataFrame, column: str, where: str) -> list[str]:
    cells = table[column].astype(object)
    texts: list[str] = []
    for row, value in enumerate(cells.where(cells.notna(), None).tolist(), 1):
        try:
            texts.append(text_of(value))
        except ValueError as error:
            raise DataError(f"row {row} of {where}: column {column!r} {error}") from error
    return texts


def _labels(values: list[Any], spec: TaskConfig, where: str) -> list[int]:
    """Indices of labels that are given by name or by index."""
    index_of = _readings(spec.labels)
    labels: list[int] = []
    for row, value in enumerate(values, 1):
        text = str(value)
        index = index_of.get(text, index_of.get(_WHOLE.sub(r"\1", text.strip())))
        if index is None:
            names = ", ".join(spec.labels)
            allowed = (
                f"none of {names}, whose names are numbers: nothing else may stand for them"
                if index_of.keys() == set(spec.labels)
                else f"neither 0 to {spec.num_labels - 1} nor one of {names}"
            )
            raise DataError(
                f"row {row} of {where}: label {shown(value)} in column {spec.label!r} is {allowed}"
            )
        labels.append(index)
    return labels


def _readings(names: Sequence[str]) -> dict[str, int]:
    """What a label may be called -> its index, whatever the format: names first, then indices.

    Where a name is the index of another label ("1" to "5" for stars), names alone: a column of ones
    and twos could mean either.
    """
    by_name = {name: i for i, name in enumerate(names)}
    by_index = {str(i): i for i in range(len(names))}
    if any(by_index.get(name, i) != i for name, i in by_name.items()):
        return by_name
    return {"False": 0, "True": 1} | by_index | by_name


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Hash of texts, labels and split names: equal content is equal wherever it was read from."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for part in (name, split.text_a, split.text_b, split.label):
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
