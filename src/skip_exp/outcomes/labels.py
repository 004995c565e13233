"""From a cell to a label: a text, which names a class in any case.

It may also be the index of a class, where no name could be meant.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from numbers import Real
from typing import Any

from skip_exp.errors import did_you_mean, shown

JOINTS = ";|,"  # between the names of several labels in a cell; the first that it has counts
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}
NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WHOLE = re.compile(r"(-?\d+)\.0+")  # an index in a column of floats: 1.0
_LONG_WORD = re.compile(r"([^\W\d_])[^\W\d_]{3,}([^\W\d_])")  # five letters or more
_EDGES = " '\"[]"  # around a name, where a list was written into a CSV file


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
    whole = _WHOLE.fullmatch(text)
    if whole:
        return whole[1]
    return text.lower() if isinstance(value, bool) else text


def class_names(id2label: Mapping[Any, str]) -> list[str] | None:
    """The names of a checkpoint's classes in order; None where they have none.

    >>> class_names({1: "good", 0: "bad"})
    ['bad', 'good']
    >>> class_names({0: "LABEL_0", 1: "LABEL_1"})
    """
    names = [str(id2label[i]) for i in sorted(id2label)]
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def with_indices(names: Sequence[str]) -> bool:
    """Whether a label may be an index: not where names are numbers, or each has one of its own.

    In "1 star" to "5 stars" a 1 is hardly the second class. LABEL_0, LABEL_1, ... are in order.
    """
    if any(map(NUMBER.fullmatch, names)):
        return False
    # Numbers within the names are no indices, unless they count from 0.
    numbers = []
    for name in names:
        runs = re.findall(r"\d+", name)
        if len(runs) != 1:
            return True
        numbers.append(int(runs[0]))
    return numbers == list(range(len(names)))


def find_slips(label: str, names: Iterable[str]) -> list[str]:
    """The names that a label may be a slip of: a letter within a long word differs.

    Example:
        >>> find_slips("humann", ["human", "machine"]), find_slips("group 1", ["group 2"])
        (['human'], [])

    Numbers and short words tell classes apart, and so do the ends of a word: "inactive", "groupA".

    Args:
        label, names: in lower case, and not empty.
    """
    ends = _LONG_WORD.sub(r"\1\2", label)
    # The first letter is soon compared, also where there are many names.
    names = [name for name in names if name[:1] == label[:1]]
    near = [name for name in names if _LONG_WORD.sub(r"\1\2", name) == ends]
    return difflib.get_close_matches(label, near, cutoff=(len(label) - 1) / len(label))


class LabelIndex:
    """Finds the class of a label by name, in any case, or by index where no name could be meant.

    Example:
        >>> index = LabelIndex(["Bad", "good"])
        >>> index.find("bad"), index.find("1"), index.find("fair")
        (0, 1, None)
    """

    def __init__(self, names: Sequence[str]) -> None:
        words = [label_text(name).casefold() for name in names]
        # Two names that differ only in case are known by their exact spelling alone.
        self.folded = {word: i for i, word in enumerate(words) if words.count(word) == 1}
        self.exact = {name: i for i, name in enumerate(names)}
        if with_indices(names):
            self.exact |= {str(i): i for i in range(len(names))}

    def find(self, text: str) -> int | None:
        """The index of the class; None if there is none, or if several could be meant."""
        return self.exact.get(text, self.folded.get(text.casefold()))

    def read(self, value: Any, column: str) -> int:
        """The index of a cell's class. Raises ValueError where it has none."""
        text = label_text(value)
        index = self.find(text)
        if index is None:
            label = f"label {shown(value)}" if text else "empty label"
            near = find_slips(text.casefold(), self.folded) if text else []
            raise ValueError(f"{label} in column {column!r}{did_you_mean(text.casefold(), near)}")
        return index


def split_labels(value: Any, index: LabelIndex | None = None) -> list[Any]:
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
    joint = next((joint for joint in JOINTS if joint in text), JOINTS[0])
    names = [part.strip(_EDGES) for part in text.split(joint)]
    return [name for name in names if name]
