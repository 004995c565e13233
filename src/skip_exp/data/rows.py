"""A task's rows: from a table in the task's own columns to texts, labels and splits."""

import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from skip_exp.config.task import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.files import STAND_IN
from skip_exp.data.read import FIX, Table
from skip_exp.data.splits import NO_LABEL, join_rows, labels_of
from skip_exp.data.text import build_texts, columns_of
from skip_exp.errors import ConfigError, DataError, shown_names
from skip_exp.outcomes.labels import with_indices

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_TOLD = 3  # texts with two labels that a warning names


@dataclass(frozen=True)
class Rows:
    """The rows of a task; :func:`skip_exp.data.encode.encode` adds their token ids.

    Attributes:
        select: the selection slice of train, or the rows of its own file; not in ``train``.
        extra: further scored splits, by name.
        source: local:<dir>, hub:<id> or embedded:<name>.
        fingerprint: hash of texts and labels; see :func:`hash_rows`.
        read: the same of the rows as they were read: equal for every seed.
        dropped: number of rows left out: bad ones, and duplicates in train.
        duplicates: number of validation rows whose texts are also a train row's.
        majority: scores of always predicting validation's most frequent label.
        train_rows: number of rows drawn for ``train``; None: all of them.
        tokenizer: that made the token ids; None before.
    """

    spec: TaskConfig
    train: list[Row]
    select: list[Row]
    validation: list[Row]
    extra: dict[str, list[Row]]
    source: str
    fingerprint: str
    read: str = ""
    dropped: int = 0
    duplicates: int = 0
    majority: dict[str, float] = field(default_factory=dict)
    train_rows: int | None = None
    tokenizer: Any = None

    @property
    def is_sample(self) -> bool:
        """Whether rows of another data set stand in for the task's own."""
        return self.source == STAND_IN

    def token_counts(self) -> "Tensor":
        """Occurrences by token id in the train rows, without the selection slice."""
        import torch  # takes seconds: not to read rows, which may be refused

        ids = chain.from_iterable(row["input_ids"] for row in self.train)
        return torch.bincount(torch.from_numpy(np.fromiter(ids, np.int64)))


def to_rows(table: Table, spec: TaskConfig, split: str, drop_bad: bool = False) -> dict[int, Row]:
    """Check a table and build the task's texts and labels, by the number of the row in the table.

    Args:
        drop_bad: leave bad rows out, with a warning, instead of refusing the table.

    Raises:
        DataError: no rows, an empty cell, or an unknown label: the first bad rows at once.
        ConfigError: the label's column is one of the texts'.
    """
    for column in spec.label_columns:
        if column in columns_of(spec.text):
            raise ConfigError("task.label", column, "is a column of the texts, too")
    if not table.rows:
        raise DataError(f"task {spec.name}: split {split} of {table.where} has no rows")
    group = spec.group if split == spec.train else None  # others are not split again
    label_of = spec.outcome.reader(spec.labels, spec.label)
    rows: dict[int, Row] = {}
    bad: dict[int, str] = {}
    for number, cells in enumerate(table.rows, 1):
        try:
            row: Row = {"texts": build_texts(cells, spec.text), "label": label_of(cells)}
            if group:
                (row["group"],) = build_texts(cells, [group])
        except ValueError as error:
            bad[number] = str(error)
            continue
        rows[number] = row
    more = FIX if rows else ""
    if any(why.startswith("label ") for why in bad.values()):
        indices = f"0 to {len(spec.labels) - 1} or " if with_indices(spec.labels) else ""
        more = f"labels: {indices}one of {shown_names(spec.labels)}; {more}".removesuffix("; ")
    table.report_bad(bad, drop_bad, more)
    if not rows:
        raise DataError(f"task {spec.name}: split {split} of {table.where} has no good rows")
    return rows


def warn_of_conflicts(table: Table, rows: Mapping[int, Row]) -> None:
    """Count the texts that have several labels, and name where the first of them are."""
    places: dict[tuple[str, ...], dict[int, int]] = {}  # of a text: where each label is first
    for number, row in rows.items():
        places.setdefault(tuple(row["texts"]), {}).setdefault(row["label"], number)
    conflicts = [[*at.values()] for at in places.values() if len(at) > 1]
    if conflicts:
        named = "; ".join(" and ".join(map(str, at)) for at in conflicts[:_TOLD])
        message = "data: %s: %d texts are labelled in several ways, such as those of row %s"
        log.warning(message, table.where, len(conflicts), named)


def get_texts(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The one or two texts of every row."""
    return [tuple(row["texts"]) for row in rows]


def get_labels(rows: Sequence[Row]) -> list[Any]:
    """Of every row the index of its label; of a task of several labels a 0 or 1 for each."""
    return [row["label"] for row in rows]


def list_labels(rows: Sequence[Row]) -> list[int]:
    """The labels of all rows in one list: of each row one, or several, or none."""
    found = chain.from_iterable(labels_of(row["label"]) for row in rows)
    return [label for label in found if label != NO_LABEL]


def name_label(row: Row, spec: TaskConfig) -> str:
    """The label of a row, or all of several."""
    return spec.outcome.name(row["label"], spec.labels)


def find_units(rows: Sequence[Row]) -> Sequence[Hashable]:
    """What keeps rows on one side of a split: see :func:`splits.join_rows`."""
    groups = [row["group"] for row in rows] if rows and "group" in rows[0] else None
    return join_rows(get_texts(rows), groups)


def hash_rows(splits: Mapping[str, Sequence[Row]]) -> str:
    """Hash of split names, texts, labels and groups; independent of where they were read from."""
    digest = hashlib.sha256()
    for name, rows in splits.items():
        texts = [list(column) for column in zip(*get_texts(rows), strict=True)]
        parts: list[Any] = [name, texts[0], texts[1] if len(texts) > 1 else None, get_labels(rows)]
        if "group" in rows[0]:
            parts.append([row["group"] for row in rows])
        for part in parts:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
