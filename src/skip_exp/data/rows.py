"""A task's rows: from a table in the task's own columns to texts, labels and splits."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from skip_exp.config.task import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.files import STAND_IN
from skip_exp.data.splits import NO_LABEL, join_rows, labels_of
from skip_exp.data.table import Table
from skip_exp.data.text import cell_text, columns_of, shown, texts_of
from skip_exp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_WHOLE = re.compile(r"^(-?\d+)\.0+$")  # an index in a column of floats: 1.0
NUMBER = re.compile(r"-?\d+(\.\d+)?")
_BOOLEANS = {"true": ("true", "yes", "1"), "false": ("false", "no", "0")}
FIX = "data.drop_bad=true (--drop-bad, drop_bad=True)"  # of a job, of the commands, in Python
JOINTS = ";|,"  # between the names of several labels in a cell, the first that fits
_EDGES = " '\"[]"  # around a name, where a list was written into a CSV file
_RARE = 0.1  # of the rows: accuracy hardly sees a label that has fewer
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


def to_rows(
    table: Table, spec: TaskConfig, split: str, drop_bad: bool = False, fix: str = FIX
) -> list[Row]:
    """The rows of :func:`rows_by_number`, in order."""
    return list(rows_by_number(table, spec, split, drop_bad, fix).values())


def rows_by_number(
    table: Table, spec: TaskConfig, split: str, drop_bad: bool = False, fix: str = FIX
) -> dict[int, Row]:
    """Check a table and build the task's texts and labels, by the number of the row in the table.

    Args:
        drop_bad: leave bad rows out, with a warning, instead of refusing the table.
        fix: what sets ``drop_bad``, for the message.

    Raises:
        DataError: no rows, an empty cell, or an unknown label: all bad rows at once.
        ConfigError: the label's column is one of the texts'.
    """
    for column in spec.label_columns:
        if column in columns_of(spec.text):
            raise ConfigError("task.label", column, "is a column of the texts, too")
    if not table.rows and not table.bad:
        raise DataError(f"task {spec.name}: split {split} of {table.where} has no rows")
    group = spec.group if split == spec.train else None  # others are not split again
    label_of = _labels_reader(spec) if spec.multilabel else _label_reader(spec)
    rows: dict[int, Row] = {}
    bad = dict(table.bad)
    for number, cells in table.rows.items():
        try:
            row: Row = {"texts": texts_of(cells, spec.text), "label": label_of(cells)}
            if group:
                row["group"] = cell_text(cells, group)
        except ValueError as error:
            bad[number] = str(error)
            continue
        rows[number] = row
    allowed = ""
    if any(why.startswith("label") for why in bad.values()):
        indices = f"0 to {len(spec.labels) - 1} or " if with_indices(spec.labels) else ""
        allowed = f" (labels: {indices}one of {', '.join(spec.labels)})"
    table.report_bad(bad, drop_bad, fix if rows else "", allowed)
    if not rows:
        raise DataError(f"task {spec.name}: split {split} of {table.where} has no good rows")
    if spec.multilabel and (bare := sum(not any(row["label"]) for row in rows.values())):
        log.info("data: %s: %d of %d rows have none of the labels", table.where, bare, len(rows))
    _warn_of_conflicts(table, rows)
    return rows


def _warn_of_conflicts(table: Table, rows: Mapping[int, Row]) -> None:
    """Count the texts that have several labels, and name where the first of them are."""
    places: dict[tuple[str, ...], dict[int, int]] = {}  # of a text: where each label is first
    for number, row in rows.items():
        places.setdefault(tuple(row["texts"]), {}).setdefault(row["label"], number)
    conflicts = [[*at.values()] for at in places.values() if len(at) > 1]
    if conflicts:
        named = "; ".join(" and ".join(map(str, at)) for at in conflicts[:_TOLD])
        message = "data: %s: %d texts are labelled in several ways, such as those of %s %s"
        log.warning(message, table.where, len(conflicts), table.unit, named)


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
    names = [spec.labels[i] for i in labels_of(row["label"]) if i != NO_LABEL]
    return JOINTS[0].join(names)


def find_rare(labels: Sequence[int]) -> list[int]:
    """The labels of less than a tenth of the rows and, of many, of less than half an even share.

    Example:
        >>> find_rare([0] * 19 + [1])
        [1]
    """
    counts = Counter(labels)
    return sorted(
        label
        for label, count in counts.items()
        if count < _RARE * len(labels) and 2 * count * len(counts) < len(labels)
    )


def find_units(rows: Sequence[Row]) -> Sequence[Hashable]:
    """What keeps rows on one side of a split: see :func:`splits.join_rows`."""
    groups = [row["group"] for row in rows] if rows and "group" in rows[0] else None
    return join_rows(get_texts(rows), groups)


def integer_text(text: str) -> str:
    """A whole number as an integer's text: ``1.0`` is ``1``; other texts as they are."""
    return _WHOLE.sub(r"\1", text.strip())


def with_indices(names: Sequence[str]) -> bool:
    """Whether a label may be an index: not where names are numbers, or each has one of its own.

    In "1 star" to "5 stars" a 1 is hardly the second class. LABEL_0, LABEL_1, ... are in order.
    """
    counts = [re.findall(r"\d+", name) for name in names]
    is_counted = all(len(each) == 1 for each in counts)
    if is_counted and [int(number) for (number,) in counts] != [*range(len(names))]:
        return False
    return not any(map(NUMBER.fullmatch, names))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)  # NaN


def _label_reader(spec: TaskConfig) -> Callable[[Mapping[str, Any]], int]:
    """A function from a row's name, boolean or index to the label's index; raises ValueError."""
    are_indices = with_indices(spec.labels)
    find = cache(lambda text: find_label(text, spec.labels, are_indices))

    def read(cells: Mapping[str, Any]) -> int:
        value = cells[spec.label]
        found = None if _is_empty(value) else find(str(value))  # "None" may be a class
        if found is None:
            hint = ", set task.labels to true and false" if isinstance(value, bool) else ""
            if isinstance(value, list):
                hint = "; rows of several labels need task.multilabel=true"
            given = shown(None if _is_empty(value) else value)
            raise ValueError(f"label {given} in column {spec.label!r}{hint}")
        return int(found)

    return read


def _labels_reader(spec: TaskConfig) -> Callable[[Mapping[str, Any]], tuple[int, ...]]:
    """A function from a row's cells to 0 or 1 for each label; raises ValueError."""
    are_indices = with_indices(spec.labels)
    find = cache(lambda text: find_label(text, spec.labels, are_indices))
    is_given = cache(lambda text: find_label(text, ["0", "1"], with_indices=False))

    def read_flags(cells: Mapping[str, Any]) -> tuple[int, ...]:
        flags = []
        for name in spec.labels:
            flag = is_given(str(cells[name]))
            if flag is None:
                raise ValueError(f"column {name!r} is {shown(cells[name])}, not 0 or 1")
            flags.append(flag)
        return tuple(flags)

    def read(cells: Mapping[str, Any]) -> tuple[int, ...]:
        value = cells[spec.label]
        names = value if isinstance(value, list) else split_names(value, find)
        found = [None if _is_empty(name) else find(str(name)) for name in names]
        if None in found:
            unknown = [name for name, index in zip(names, found, strict=True) if index is None]
            raise ValueError(f"label {shown(unknown[0])} in column {spec.label!r}")
        return tuple(int(i in found) for i in range(len(spec.labels)))

    return read if spec.label else read_flags


def split_names(value: Any, find: Callable[[str], int | None]) -> list[str]:
    """The names that a cell joins: by the first of JOINTS whose parts are labels. Empty: none.

    Example:
        >>> split_names("price; service", {"price": 0, "service": 1}.get)
        ['price', 'service']
    """
    text = "" if _is_empty(value) else str(value).strip()
    if not text or find(text) is not None:
        return [text] if text else []
    for joint in JOINTS:
        names = split_cell(text, joint)
        if all(find(name) is not None for name in names):
            return names
    joint = next((each for each in JOINTS if each in text), JOINTS[0])
    return split_cell(text, joint)


def split_cell(text: str, joint: str) -> list[str]:
    """The names that are joined in a text, such as ``a;b`` or ``['a', 'b']``."""
    names = [part.strip(_EDGES) for part in text.split(joint)]
    return [name for name in names if name]


def find_label(text: str, names: Sequence[str], with_indices: bool) -> int | None:
    """The label that a text stands for; None if there is none, or if it is ambiguous.

    Names count first, in any case. A boolean counts by meaning, never by index: in ["yes", "no"]
    true is index 0.
    """
    number = integer_text(text)
    for name in (text, number):
        if name in names:
            return names.index(name)
    folded = [name.casefold() for name in names]
    word = number.casefold()
    if word in folded:
        return folded.index(word) if folded.count(word) == 1 else None
    if word in _BOOLEANS:
        found: dict[str, list[int]] = {}
        for meaning, spellings in _BOOLEANS.items():
            found[meaning] = [i for i, name in enumerate(folded) if name in spellings]
        is_clear = len(found["true"]) == len(found["false"]) == 1
        return found[word][0] if is_clear else None
    return int(number) if with_indices and number in map(str, range(len(names))) else None


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
