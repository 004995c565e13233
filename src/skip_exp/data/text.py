"""Builds an example's texts from the columns of a row."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from numbers import Real
from typing import Any

from skip_exp.errors import DataError, shown, shown_names

_FIELD = re.compile(r"\{([^{}]+)\}")


def columns_of(entries: Iterable[str], *more: str) -> list[str]:
    """The columns of the entries of ``task.text`` (names or templates), and ``more``, once each."""
    columns: list[str] = []
    for entry in entries:
        columns += _FIELD.findall(entry) or [entry]
    return list(dict.fromkeys([*columns, *more]))


def build_texts(example: Any, entries: Sequence[str]) -> list[str]:
    """The texts of an example for the entries of ``task.text``.

    Example:
        >>> build_texts({"word": "bank", "s": "it shut"}, ["{word}: {s}"])
        ['bank: it shut']

    Args:
        example: a row with the columns, a text, or two texts.

    Raises:
        ValueError: it has other columns, another number of texts, or something that is no text.
    """
    if not isinstance(example, Mapping):
        return _check_texts(example, entries)
    cells = {}
    for column in columns_of(entries):
        if column not in example:
            raise ValueError(f"no column {column!r} (it has: {shown_names([*example])})")
        try:
            cells[column] = text_of(example[column])
        except ValueError as error:
            raise ValueError(f"column {column!r} {error}") from error
    texts = []
    for entry in entries:
        if _FIELD.search(entry):
            # Not str.format: a template must not reach attributes, and names may be arbitrary.
            texts.append(_FIELD.sub(lambda match: cells[match.group(1)], entry))
        else:
            texts.append(cells[entry])
    return texts


def _check_texts(example: Any, entries: Sequence[str]) -> list[str]:
    """A text, or several."""
    texts = [example] if isinstance(example, str) else example
    if isinstance(texts, bytes) or not isinstance(texts, Sequence):
        raise ValueError(f"{shown(example)} is not a text, pair of texts or mapping")
    if len(texts) != len(entries):
        wanted = "one text" if len(entries) == 1 else "two texts"
        raise ValueError(f"takes {wanted} ({', '.join(entries)}), not {len(texts)}")
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"{shown(text)} is not a text")
        try:
            text_of(text)
        except ValueError as error:
            raise ValueError(f"its text {error}") from error
    return list(texts)


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


def check_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise a DataError if a wanted column is missing or occurs twice."""
    for column in wanted:
        if (found := list(names).count(column)) != 1:
            says = f"{found} columns" if found else "no column"
            raise DataError(f"{says} {column!r} in {where} (it has: {shown_names(names)})")
