"""Turns a table in the task's own columns into texts and integer labels."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.spec import columns
from skip_exp.data.tables import check_columns
from skip_exp.data.text import fill, shown, text_of
from skip_exp.errors import DataError

_WHOLE = re.compile(r"^(\d+)\.0+$")  # an index in a column of floats: 1.0
_BOOLEANS = {"true": ("true", "yes", "1"), "false": ("false", "no", "0")}


@dataclass(frozen=True)
class Split:
    """One split, column-wise; ``text_b`` is None for a single-text task."""

    text_a: list[str]
    text_b: list[str] | None
    label: list[int]

    def __len__(self) -> int:
        return len(self.label)


def to_split(table: pd.DataFrame, spec: TaskConfig, split: str, where: str) -> Split:
    """Check a table and build the task's texts and labels.

    Args:
        table: rows in the task's own columns.
        where: where the table was read from, for messages.

    Raises:
        DataError: no rows, a missing column, an empty cell, or an unknown label.
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
    """Label indices of a column that holds names, booleans or indices."""
    names = spec.labels
    # A name that is the index of another label ("1" to "5" for stars) makes indices ambiguous.
    indices = [str(i) for i in range(len(names))]
    with_indices = not any(name in indices and names[int(name)] != name for name in names)
    index = cache(lambda text: _index(text, names, with_indices))
    labels: list[int] = []
    for row, value in enumerate(values, 1):
        if (label := index(str(value))) is None:
            allowed = f"one of {', '.join(names)}"
            if with_indices:
                allowed = f"0 to {len(names) - 1} or {allowed}"
            if isinstance(value, bool):
                allowed += " (for booleans, set task.labels to true and false)"
            raise DataError(
                f"row {row} of {where}: label {shown(value)} in column {spec.label!r}: "
                f"must be {allowed}"
            )
        labels.append(label)
    return labels


def _index(text: str, names: Sequence[str], with_indices: bool) -> int | None:
    """The label that a text stands for; None if there is none, or if it is ambiguous.

    Names count first, in any case. A boolean counts by meaning, never by index: in ["yes", "no"]
    true is index 0.
    """
    whole = _WHOLE.sub(r"\1", text.strip())
    for name in (text, whole):
        if name in names:
            return names.index(name)
    folded = [name.casefold() for name in names]
    if (word := text.casefold()) in folded:
        return folded.index(word) if folded.count(word) == 1 else None
    if word in _BOOLEANS:
        found = {w: [i for i, f in enumerate(folded) if f in _BOOLEANS[w]] for w in _BOOLEANS}
        return found[word][0] if all(len(indices) == 1 for indices in found.values()) else None
    return int(whole) if with_indices and whole in map(str, range(len(names))) else None


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Hash of split names, texts and labels; independent of where they were read from."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        for part in (name, split.text_a, split.text_b, split.label):
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
