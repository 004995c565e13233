"""From a cell to a class: the one place that reads labels, for every task and every command.

A label is a text. It stands for the class of that name, in any case, or for the class of that
index where no name could be meant.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from numbers import Real
from typing import Any

from skip_exp.config.task import TaskConfig
from skip_exp.data.read import Table
from skip_exp.data.text import shown
from skip_exp.errors import DataError

log = logging.getLogger(__name__)

JOINTS = ";|,"  # between the names of several labels in a cell; the first that it has counts
MOST_CLASSES = 1000  # classes; more are rather a column of texts
_WHOLE = re.compile(r"(-?\d+)\.0+")  # an index in a column of floats: 1.0
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_EDGES = " '\"[]"  # around a name, where a list was written into a CSV file
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}


def label_text(value: Any) -> str:
    """A label as text; empty where there is none. Raises ValueError: it is no text.

    Example:
        >>> label_text(1.0), label_text(" Good"), label_text(True), label_text(None)
        ('1', 'Good', 'true', '')
    """
    if value is None or value != value:  # NaN
        return ""
    if not isinstance(value, str | Real | date):
        raise ValueError(f"label {shown(value)} is not a text")
    text = str(value).strip()
    if whole := _WHOLE.fullmatch(text):
        return whole[1]
    return text.lower() if isinstance(value, bool) else text


def split_labels(value: Any, index: "LabelIndex | None" = None) -> list[Any]:
    """The labels of a cell: a list, or names that are joined by the first of JOINTS that it has.

    Example:
        >>> split_labels("price; staff"), split_labels("['price', 'staff']"), split_labels(None)
        (['price', 'staff'], ['price', 'staff'], [])

    Args:
        index: of names, which may hold what joins others.
    """
    if isinstance(value, list):
        return value
    text = label_text(value)
    if index and index.find(text) is not None:
        return [text]
    joint = next((each for each in JOINTS if each in text), JOINTS[0])
    names = [part.strip(_EDGES) for part in text.split(joint)]
    return [name for name in names if name]


def with_indices(names: Sequence[str]) -> bool:
    """Whether a label may be an index: not where names are numbers, or each has one of its own.

    In "1 star" to "5 stars" a 1 is hardly the second class. LABEL_0, LABEL_1, ... are in order.
    """
    counts = [re.findall(r"\d+", name) for name in names]
    is_counted = all(len(each) == 1 for each in counts)
    if is_counted and [int(number) for (number,) in counts] != [*range(len(names))]:
        return False
    return not any(map(_NUMBER.fullmatch, names))


class LabelIndex:
    """Finds the class of a label by name, in any case, or by index where no name could be meant.

    Example:
        >>> index = LabelIndex(["Bad", "good"])
        >>> index.find("bad"), index.find("1"), index.find("fair")
        (0, 1, None)
    """

    def __init__(self, names: Sequence[str]) -> None:
        words = [label_text(name).casefold() for name in names]
        self.folded = {word: i for i, word in enumerate(words) if words.count(word) == 1}
        self.exact = {name: i for i, name in enumerate(names)}
        if with_indices(names):
            self.exact |= {str(i): i for i in range(len(names))}

    def find(self, text: str) -> int | None:
        """The index of the class; None if there is none, or if several could be meant."""
        return self.exact.get(text, self.folded.get(text.casefold()))


def label_reader(spec: TaskConfig) -> Callable[[Mapping[str, Any]], int | tuple[int, ...]]:
    """A function from a row to the index of its class or, of several, to 0 and 1 for each.

    It raises ValueError where the row has no label of the task.
    """
    index, column = LabelIndex(spec.labels), spec.label

    def find(value: Any) -> int:
        text = label_text(value)
        found = index.find(text)
        if found is None:
            given = f"label {shown(value)}" if text else "empty label"
            raise ValueError(f"{given} in column {column!r}")
        return found

    def read_one(cells: Mapping[str, Any]) -> int:
        if isinstance(cells[column], list):
            why = "rows of several labels need task.multilabel=true"
            raise ValueError(f"label {shown(cells[column])}: {why}")
        return find(cells[column])

    def read_several(cells: Mapping[str, Any]) -> tuple[int, ...]:
        found = set(map(find, split_labels(cells[column], index)))
        return tuple(int(i in found) for i in range(len(spec.labels)))

    def read_flags(cells: Mapping[str, Any]) -> tuple[int, ...]:
        flags = []
        for name in spec.labels:
            flag = _FLAGS.get(label_text(cells[name]).lower())
            if flag is None:
                raise ValueError(f"column {name!r} is {shown(cells[name])}, not 0 or 1")
            flags.append(flag)
        return tuple(flags)

    if not spec.multilabel:
        return read_one
    return read_several if column else read_flags


def find_classes(table: Table, column: str, multilabel: bool = False) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts: Counter[str] = Counter()
    bad: dict[int, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            given = split_labels(row[column]) if multilabel else [row[column]]
            counts.update(filter(None, map(label_text, given)))
        except ValueError as error:
            bad[number] = str(error)
    spellings: dict[str, list[str]] = {}
    for spelling, _ in counts.most_common():
        spellings.setdefault(spelling.casefold(), []).append(spelling)
    for joined in spellings.values():
        if len(joined) > 1:
            log.warning("data: the labels %s are one class, %s", " and ".join(joined), joined[0])
    names = sorted((each[0] for each in spellings.values()), key=_natural)
    if len(names) < 2 or len(names) > min(MOST_CLASSES, counts.total() / 2):
        table.report_bad(bad, drop=False, more="")  # rather than to count what was read
        what = f"{len(names)} different values in {counts.total()} rows"
        raise DataError(f"{table.where}: label={column}: {what}: not a column of classes")
    _warn_of_equal(names)
    if not multilabel:
        _warn_of_joined(names)
    return names


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = _NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name


def _warn_of_equal(names: Sequence[str]) -> None:
    """Name two classes of one value, such as ``1.5`` and ``1.50``, or ``1`` and ``true``."""
    seen: dict[float, str] = {}
    for name in names:
        flag = _FLAGS.get(name.casefold())
        try:
            value = float(name) if flag is None else flag
        except ValueError:
            continue
        if value in seen:
            log.warning("data: the labels %s and %s are two classes", seen[value], name)
        seen[value] = name


def _warn_of_joined(names: Sequence[str]) -> None:
    """Name a class that joins others, such as ``price;service`` beside ``price``."""
    for name in names:
        parts = split_labels(name)
        if len(parts) > 1 and {*parts} <= {*names}:
            cure = "task.multilabel=true takes it apart"
            log.warning("data: the label %s joins others, but is a class: %s", name, cure)
            return
