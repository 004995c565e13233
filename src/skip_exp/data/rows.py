"""Turns a table in the task's own columns into texts and integer labels."""

import hashlib
import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd

from skip_exp.config.task import TaskConfig
from skip_exp.data.splits import join_rows
from skip_exp.data.tables import BAD
from skip_exp.data.text import cell_text, check_columns, columns_of, shown, texts_of
from skip_exp.errors import ConfigError, DataError

log = logging.getLogger(__name__)

_WHOLE = re.compile(r"^(-?\d+)\.0+$")  # an index in a column of floats: 1.0
NUMBER = re.compile(r"-?\d+(\.\d+)?")
_BOOLEANS = {"true": ("true", "yes", "1"), "false": ("false", "no", "0")}
_TOLD = 20  # bad rows that a message names
FIX = "data.drop_bad=true"  # in a job


@dataclass(frozen=True)
class Split:
    """One split, column-wise.

    Attributes:
        text_b: None for a task of one text.
        group: what ``task.group`` says of each row; None without it.
        dropped: number of bad rows that were left out.
    """

    text_a: list[str]
    text_b: list[str] | None
    label: list[int]
    group: list[str] | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.label)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Both texts of every row; the second is empty for a task of one text."""
        return list(zip(self.text_a, self.text_b or [""] * len(self), strict=True))

    @property
    def units(self) -> Sequence[Hashable]:
        """What keeps rows on one side of a split: see :func:`splits.join_rows`."""
        return join_rows(self.texts, self.group)

    @property
    def examples(self) -> list[list[str]]:
        """The one or two texts of every row."""
        columns = [self.text_a] if self.text_b is None else [self.text_a, self.text_b]
        return [list(row) for row in zip(*columns, strict=True)]

    def take(self, rows: Sequence[int]) -> "Split":
        """The split with these rows only."""

        def taken(values: list[Any] | None) -> Any:
            return None if values is None else [values[i] for i in rows]

        texts = taken(self.text_a), taken(self.text_b)
        return replace(
            self, text_a=texts[0], text_b=texts[1], label=taken(self.label), group=taken(self.group)
        )


def to_split(
    table: pd.DataFrame,
    spec: TaskConfig,
    split: str,
    where: str,
    drop_bad: bool = False,
    fix: str = FIX,
) -> Split:
    """Check a table and build the task's texts and labels.

    Args:
        table: rows in the task's own columns, numbered as :mod:`tables` describes.
        where: where the table was read from, for messages.
        drop_bad: leave bad rows out, with a warning, instead of refusing the table.
        fix: what sets ``drop_bad``, for the message.

    Raises:
        DataError: no rows, a missing column, an empty cell, or an unknown label: all bad rows at
            once.
        ConfigError: the label's column is one of the texts'.
    """
    bad: dict[int, str] = dict(table.attrs.get(BAD, {}))
    if table.empty and not bad:
        raise DataError(f"task {spec.name}: split {split} of {where} has no rows")
    group_column = spec.group if split == spec.train else None  # others are not split again
    wanted = (*columns_of(spec.text), spec.label, *filter(None, [group_column]))
    if spec.label in columns_of(spec.text):
        raise ConfigError("task.label", spec.label, "is a column of the texts, too")
    check_columns(list(table.columns), wanted, where)
    # A data frame's own index may have any values; that of a file has the numbers of its lines.
    is_file = BAD in table.attrs
    numbers = table.index if is_file else range(1, len(table) + 1)
    cells = table[list(dict.fromkeys(wanted))].astype(object)
    records = cells.where(cells.notna(), None).to_dict("records")
    label_of = _labels(spec)
    rows: list[tuple[list[str], int, str]] = []
    for number, record in zip(numbers, records, strict=True):
        try:
            group = cell_text(record, group_column) if group_column else ""
            rows.append((texts_of(record, spec.text), label_of(record[spec.label]), group))
        except ValueError as error:
            bad[number] = str(error)
    unit = str(table.index.name) if is_file else "row"
    report_bad(bad, unit, where, drop_bad, fix if rows else "", spec)
    if not rows:
        raise DataError(f"task {spec.name}: split {split} of {where} has no good rows")
    filled_entries, labels, groups = map(list, zip(*rows, strict=True))
    first, *second = map(list, zip(*filled_entries, strict=True))
    group_of = groups if group_column else None
    return Split(first, second[0] if second else None, labels, group_of, len(bad))


def report_bad(
    bad: Mapping[int, str],
    unit: str,
    where: str,
    drop: bool,
    fix: str,
    spec: TaskConfig | None = None,
) -> None:
    """Name all bad rows at once: as a warning where they are dropped, else a DataError.

    Args:
        bad: {number of the row: why}.
        unit: what the numbers count.
        fix: what sets ``drop``; empty where that would leave nothing.
        spec: the task whose labels are allowed; None where no labels are read.
    """
    if not bad:
        return
    told: dict[str, list[int]] = {}  # by reason: a wrong column has one for most of its rows
    for number in sorted(bad)[:_TOLD]:
        told.setdefault(bad[number], []).append(number)
    listed = "; ".join(f"{unit} {', '.join(map(str, at))}: {why}" for why, at in told.items())
    listed += f"; and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
    is_label = spec and any(why.startswith("label") for why in bad.values())
    allowed = f" (labels: {_allowed(spec)})" if spec and is_label else ""
    text = f"{where}: {len(bad)} bad row{'s' if len(bad) > 1 else ''}: {listed}{allowed}"
    if not drop:
        raise DataError(f"{text}; {fix} leaves them out" if fix else text)
    log.warning("data: left out: %s", text)


def _allowed(spec: TaskConfig) -> str:
    names = ", ".join(spec.labels)
    indices = f"0 to {len(spec.labels) - 1} or " if with_indices(spec.labels) else ""
    return f"{indices}one of {names}"


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


def _labels(spec: TaskConfig) -> Callable[[Any], int]:
    """A function from a name, boolean or index to the label's index; raises ValueError."""
    are_indices = with_indices(spec.labels)
    index = cache(lambda text: _index(text, spec.labels, are_indices))

    def label(value: Any) -> int:
        if value is None or (found := index(str(value))) is None:  # "None" may be a class
            hint = ", set task.labels to true and false" if isinstance(value, bool) else ""
            raise ValueError(f"label {shown(value)} in column {spec.label!r}{hint}")
        return found

    return label


def _index(text: str, names: Sequence[str], with_indices: bool) -> int | None:
    """The label that a text stands for; None if there is none, or if it is ambiguous.

    Names count first, in any case. A boolean counts by meaning, never by index: in ["yes", "no"]
    true is index 0.
    """
    number = integer_text(text)
    for name in (text, number):
        if name in names:
            return names.index(name)
    folded = [name.casefold() for name in names]
    if (word := number.casefold()) in folded:
        return folded.index(word) if folded.count(word) == 1 else None
    if word in _BOOLEANS:
        found = {w: [i for i, f in enumerate(folded) if f in _BOOLEANS[w]] for w in _BOOLEANS}
        return found[word][0] if all(len(indices) == 1 for indices in found.values()) else None
    return int(number) if with_indices and number in map(str, range(len(names))) else None


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Hash of split names, texts, labels and groups; independent of where they were read from."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        groups = [] if split.group is None else [split.group]
        for part in (name, split.text_a, split.text_b, split.label, *groups):
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
