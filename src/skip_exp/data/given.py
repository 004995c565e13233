"""Rows as a user gives them: the texts of a row, and tables of files, frames and lists."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip_exp.data.read import Table, check_columns, read_table
from skip_exp.errors import DataError, shown, shown_names

if TYPE_CHECKING:  # an ONNX skill does without OmegaConf
    from skip_exp.config.schema import DataConfig

_FIELD = re.compile(r"\{([^{}]+)\}")


def columns_of(entries: Iterable[str], *others: str) -> list[str]:
    """The columns of the entries of ``task.text`` (names or templates), and others, once each."""
    columns: list[str] = []
    for entry in entries:
        columns += _FIELD.findall(entry) or [entry]
    columns += others
    return list(dict.fromkeys(columns))


def build_texts(example: Any, entries: Sequence[str]) -> list[str]:
    """The texts of an example for the entries of ``task.text``.

    Example:
        >>> build_texts({"word": "bank", "s": "it shut"}, ["{word}: {s}"])
        ['bank: it shut']

    Args:
        example: a row with the columns, a text, or two texts. An empty cell beside a text, such as
            a mail's subject, is an empty text.

    Raises:
        ValueError: it has other columns, another number of texts, or something that is no text.
    """
    if not isinstance(example, Mapping):
        return _check_texts(example, entries)
    columns = columns_of(entries)
    # A row of empty cells has no text at all, so its cells are not read as empty texts.
    is_blank = all(example.get(column) is None for column in columns)
    cells = {}
    for column in columns:
        if column not in example:
            raise ValueError(f"no column {column!r} (it has: {shown_names(list(example))})")
        cell = example[column]
        try:
            cells[column] = text_of("" if cell is None and not is_blank else cell)
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


def build_all(
    examples: Iterable[Any], entries: Sequence[str]
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """The texts of the good examples, and why the others are bad, by their numbers from 1."""
    good: dict[int, list[str]] = {}
    bad: dict[int, str] = {}
    for number, example in enumerate(examples, 1):
        try:
            good[number] = build_texts(example, entries)
        except ValueError as error:
            bad[number] = str(error)
    return good, bad


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
        text_of(text)
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
        raise ValueError(
            f"is not valid Unicode: it has half of a character, {text[error.start]!r}"
        ) from None
    return text


def to_table(
    data: Any,
    text: Sequence[str],
    label: str | Sequence[str],
    reading: "DataConfig",
    others: Sequence[str] = (),
) -> Table:
    """The rows of ``data``.

    Args:
        data: path of a CSV, JSON, JSON lines or Parquet file; a pandas data frame; a
            ``datasets.Dataset``; or a list of rows as dictionaries.
        text: columns, or templates of columns.
        label: column of the labels, or columns of 0 and 1 for each label.
        reading: how a file is read.
        others: columns that are needed beside these.

    Raises:
        DataError: none of these, a file that cannot be read, or a missing column.
    """
    labels = [label] if isinstance(label, str) else label
    wanted = columns_of(text, *labels, *others)
    if isinstance(data, str | Path):
        file = Path(data).expanduser()
        return read_table(file, wanted, reading.sep, reading.encoding)
    if is_frame(data):
        return read_frame(data, wanted)
    if hasattr(data, "to_pandas") and hasattr(data, "features"):  # datasets.Dataset
        return dataset_to_table(
            data, wanted, "the data set", str(label), read_class_names(data, label)
        )
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        import pandas as pd  # takes half a second, and a file needs none

        return read_frame(pd.DataFrame(list(data), dtype=object), wanted, "the rows")
    raise DataError(
        f"{shown(data)}: must be a file, a data frame, a data set, or a list of dictionaries"
    )


def dataset_to_table(
    data: Any, wanted: Sequence[str], where: str, label: str, names: Sequence[str] | None
) -> Table:
    """The rows of a ``datasets.Dataset``; labels become ``names``, if any. Raises DataError."""
    frame = data.to_pandas()
    if names and label in frame:
        frame[label] = [_to_names(value, names) for value in frame[label]]
    return read_frame(frame, wanted, where)


def read_class_names(data: Any, label: str | Sequence[str]) -> list[str] | None:
    """The names of the classes in order, where ``data`` is a data set that has them."""
    features = getattr(data, "features", None)
    if not isinstance(label, str) or not isinstance(features, Mapping):
        return None
    feature = features.get(label)
    return getattr(getattr(feature, "feature", feature), "names", None)  # of a list, or a value


def _to_names(value: Any, names: Sequence[str]) -> Any:
    """The name of an index, or those of a list; None where it is no index."""
    if hasattr(value, "__len__"):
        return [_to_names(index, names) for index in value]
    return names[int(value)] if value in range(len(names)) else None


def is_frame(data: Any) -> bool:
    """Whether these are rows in a data frame of pandas, which need not be installed."""
    return hasattr(data, "iloc") and hasattr(data, "columns")


def read_frame(frame: Any, wanted: Sequence[str], where: str = "the data frame") -> Table:
    """The cells of a data frame of pandas, as training, scoring and answering take them.

    A missing cell (None, NaN, NaT, NA) is None.

    Raises:
        DataError: a wanted column is missing or occurs twice.
    """
    check_columns(list(frame.columns), wanted, where)
    cells = frame[list(wanted)].astype(object)
    rows = []
    for record in cells.where(cells.notna(), None).to_dict("records"):
        rows.append({column: _to_plain(cell) for column, cell in record.items()})
    return Table(where, rows)


def _to_plain(value: Any) -> Any:
    """A value of NumPy or torch as Python's, a date as text, a tuple, set or array as a list."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, date) else value
