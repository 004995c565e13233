"""Builds an example's texts from the columns of a row."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from numbers import Real

from skip_exp.errors import DataError

_FIELD = re.compile(r"\{([^{}]+)\}")
_SHOWN = 80  # characters of a value in a message
_NAMES = 20  # columns listed in a message


def text_columns(entry: str) -> list[str]:
    """Columns named by an entry of ``task.text``: its ``{fields}``, or the entry itself."""
    return _FIELD.findall(entry) or [entry]


def columns_of(entries: Iterable[str], *more: str) -> list[str]:
    """What the entries of ``task.text`` read, and ``more``: each column once."""
    own = (column for entry in entries for column in text_columns(entry))
    return list(dict.fromkeys([*own, *more]))


def fill(entry: str, row: Mapping[str, str]) -> str:
    """The text of a row for an entry of ``task.text`` (a column name or a template)."""
    # Not str.format: a template must not reach attributes, and column names may be arbitrary.
    if not _FIELD.search(entry):
        return row[entry]
    return _FIELD.sub(lambda match: row[match.group(1)], entry)


def texts_of(row: Mapping[str, object], entries: Sequence[str]) -> list[str]:
    """The texts of a row for the entries of ``task.text``. Raises ValueError."""
    texts = {column: cell_text(row, column) for column in columns_of(entries)}
    return [fill(entry, texts) for entry in entries]


def cell_text(row: Mapping[str, object], column: str) -> str:
    """A cell as text: see :func:`text_of`. Raises ValueError, which names the column."""
    try:
        return text_of(row[column])
    except ValueError as error:
        raise ValueError(f"column {column!r} {error}") from error


def text_of(value: object) -> str:
    """A cell as text; numbers, booleans and dates are written as Python prints them.

    Raises:
        ValueError: the cell is empty or not a text. The message completes "column 's' ...".
    """
    if value is None:
        raise ValueError("is empty (null), not a text")
    if not isinstance(value, str | Real | date):
        raise ValueError(f"is {shown(value)}, not a text")
    if value != value or value in (float("inf"), float("-inf")):  # NaN differs from itself
        raise ValueError(f"is {value}, not a text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise ValueError(f"is not valid Unicode: it has half of a character, {half!r}") from None
    return text


def shown(value: object) -> str:
    """``repr`` on one line, shortened, for messages."""
    line = " ".join(repr(value).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def shown_names(names: Sequence[object]) -> str:
    """A list of column names for messages; odd names are quoted, long lists are shortened."""
    texts = map(str, names[:_NAMES])
    listed = [t if t.isprintable() and len(t) <= _SHOWN else shown(t) for t in texts]
    more = f", and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(listed) + more or "nothing"


def shorten(names: Sequence[str]) -> str:
    """The first five of a list, for messages."""
    return ", ".join([*names[:5], "..."] if len(names) > 5 else names)


def check_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise a DataError if a wanted column is missing or occurs twice."""
    for column in wanted:
        if (found := list(names).count(column)) != 1:
            says = f"{found} columns" if found else "no column"
            raise DataError(f"{says} {column!r} in {where} (it has: {shown_names(names)})")
