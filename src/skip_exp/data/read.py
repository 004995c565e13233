"""Reads rows of any kind into one table; errors say where a file is wrong.

Values stay as they are given. No types are guessed, so "NA" and "007" are texts.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from skip_exp.data.files import SUFFIXES
from skip_exp.data.parse import parse_file, printable
from skip_exp.data.table import Dialect, Table
from skip_exp.data.text import check_columns, columns_of, shown, texts_of
from skip_exp.errors import DataError, did_you_mean
from skip_exp.utils.files import find_suffix, stamp

ANY = Dialect()


def read_table(path: Path, wanted: Sequence[str], dialect: Dialect = ANY) -> Table:
    """Read a .jsonl, .json (lines or one array), .csv, .tsv or .parquet file, or one in .gz.

    An empty or blank CSV cell is None, because CSV does not distinguish empty from missing. In the
    other formats ``""`` is an empty text. The first object of a JSON file defines its columns.

    Args:
        wanted: columns to read; each must occur exactly once.
        dialect: of a text file.

    Raises:
        DataError: the file is missing, has another format, cannot be parsed or lacks a column.
    """
    check_file(path)
    if find_suffix(path) not in SUFFIXES:
        raise DataError(f"cannot read {path}: its name must end in {', '.join(SUFFIXES)}")
    before = stamp(path)
    try:
        return replace(parse_file(path, wanted, dialect), stamp=before, dialect=dialect)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {printable(error)}") from error


def check_file(path: Path) -> None:
    """Refuse a folder, and a mistyped name: a DataError names files beside it that are near."""
    if os.path.isdir(path):
        raise DataError(f"cannot read {path}: it is a folder, not a file")
    if not os.path.isfile(path):  # no error where it may not look
        beside: list[str] = []
        with suppress(OSError, ValueError):
            beside = os.listdir(path.parent)
        why = f"no such file, or no permission{did_you_mean(path.name, beside)}"
        raise DataError(f"cannot read {path}: {why}")


def read_texts(
    path: Path,
    text: Sequence[str],
    more: Sequence[str] = (),
    drop_bad: bool = False,
    fix: str = "--drop-bad",
    dialect: Dialect = ANY,
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The texts of a file's rows, and beside each {line: its number, columns: {name: value}}.

    Args:
        text: columns, or templates of columns.
        more: columns to keep beside the texts; without any, there is no ``columns``.
        drop_bad: leave out rows without a text, with a warning.
        fix: what sets ``drop_bad``, for messages.
        dialect: of a text file.

    Raises:
        DataError: the file cannot be read, lacks a column, or has bad rows.
    """
    table = read_table(path, columns_of(text, *more), dialect)
    bad, texts, beside = dict(table.bad), [], []
    for number, row in table.rows.items():
        try:
            texts.append(texts_of(row, text))
        except ValueError as error:
            bad[number] = str(error)
            continue
        kept = {"columns": {name: row[name] for name in more}} if more else {}
        beside.append({table.unit: number} | kept)
    table.report_bad(bad, drop_bad, fix)
    return texts, beside


def to_table(
    data: Any,
    text: Sequence[str],
    label: str | Sequence[str],
    labels: Sequence[Any] | None = None,
    more: Sequence[str] = (),
    what: str = "data",
    dialect: Dialect = ANY,
) -> Table:
    """The rows of ``data`` as a Python user has them.

    Args:
        data: path of a CSV, JSON, JSON lines or Parquet file; a table of one; a pandas data frame;
            a ``datasets.Dataset``; a list of rows as dictionaries; or, with ``labels``, a list of
            texts or pairs.
        text: columns, or templates of columns; lists of texts get these names.
        label: column of the labels, or columns of 0 and 1 for each label.
        labels: one per text of a list, or a list of names.
        more: columns that are needed beside these.
        what: the argument that ``data`` is, for messages.
        dialect: of a text file.

    Raises:
        DataError: none of these, a file that cannot be read, a missing column, or lists of
            different lengths.
    """
    wanted = columns_of(text, *([label] if isinstance(label, str) else label), *more)
    if labels is not None:
        if not isinstance(label, str):
            why = "are for a list of texts; columns of 0 and 1 are of a file or a data frame"
            raise DataError(f"labels: {why}")
        if hasattr(data, "columns") or isinstance(data, str | Path) or isinstance(labels, str):
            why = "are for a list of texts; of a file or a data frame, name the column: label="
            raise DataError(f"labels: {why}")
        return _from_frame(_frame_of_lists(data, text, label, labels), wanted, "the lists")
    if isinstance(data, str | Path):
        return read_table(Path(data).expanduser(), wanted, dialect)
    if isinstance(data, Table):
        return data
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _from_frame(data, wanted, "the data frame")
    if hasattr(data, "to_pandas") and hasattr(data, "features"):  # datasets.Dataset
        column = label if isinstance(label, str) else ""
        names = read_class_names(data, column)
        return dataset_to_table(data, wanted, "the data set", column, names)
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        import pandas as pd  # takes half a second, and a file needs none

        return _from_frame(pd.DataFrame(list(data), dtype=object), wanted, "the rows")
    raise DataError(
        f"{what}: {shown(data)}: must be a file, a data frame, a data set, a list of rows as "
        "dictionaries, or a list of texts with labels="
    )


def dataset_to_table(
    data: Any, wanted: Sequence[str], where: str, label: str, names: Sequence[str] | None
) -> Table:
    """The rows of a ``datasets.Dataset``; labels become ``names``, if any. Raises DataError."""
    frame = data.to_pandas()
    if names and label in frame:
        frame[label] = [_to_names(value, names) for value in frame[label]]
    return _from_frame(frame, wanted, where)


def _to_names(value: Any, names: Sequence[str]) -> Any:
    """The name of an index, or of each in a list; None where it is no index."""
    if hasattr(value, "__len__"):
        return [_to_names(each, names) for each in value]
    return names[int(value)] if value in range(len(names)) else None


def read_class_names(data: Any, label: str | Sequence[str]) -> list[str] | None:
    """The names of the classes in order, where ``data`` is a data set that has them."""
    features = getattr(data, "features", None)
    if not isinstance(label, str) or not isinstance(features, Mapping):
        return None
    feature = features.get(label)
    return getattr(getattr(feature, "feature", feature), "names", None)  # of a list, or a value


def _from_frame(frame: Any, wanted: Sequence[str], where: str) -> Table:
    check_columns(list(frame.columns), wanted, where)
    cells = frame[list(wanted)].astype(object)
    records = cells.where(cells.notna(), None).to_dict("records")
    rows: dict[int, dict[str, Any]] = {}
    bad: dict[int, str] = {}
    for number, record in enumerate(records, 1):
        try:
            rows[number] = {column: to_plain(column, cell) for column, cell in record.items()}
        except ValueError as error:
            bad[number] = str(error)
    return Table(where, rows, bad=bad)


def _frame_of_lists(data: Any, text: Sequence[str], label: str, labels: Any) -> Any:
    import pandas as pd  # takes half a second, and a file needs none

    labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    texts = [list(each) if isinstance(each, list | tuple) else [each] for each in data]
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts, but {len(labels)} labels")
    for each in texts:
        if len(each) != len(text):
            what = "a text" if len(text) == 1 else "a pair of texts"
            raise DataError(f"{shown(each)}: must be {what}, as text={list(text)} says")
    frame = pd.DataFrame(texts, columns=list(text), dtype=object)
    return frame.assign(**{label: pd.Series(labels, dtype=object)})


def to_plain(column: str, value: Any) -> Any:
    """A value of NumPy or torch as Python's, a date or the like as text, NaN as None.

    A list, tuple, set or array of such values becomes a list, as a row of several labels has it.

    Raises:
        ValueError: bytes, parts with names, or lists in a list.
    """
    if isinstance(value, str | None):
        return value
    if hasattr(value, "item") and not getattr(value, "ndim", 0):
        value = value.item()
    if isinstance(value, bytes | bytearray):
        raise ValueError(f"column {column!r} is {shown(value)}, not a text; decode it first")
    if isinstance(value, Collection) and not isinstance(value, Mapping):
        parts = [to_plain(column, each) for each in value]
        if not any(isinstance(part, list) for part in parts):
            return parts
    if isinstance(value, Collection) or hasattr(value, "item"):
        raise ValueError(f"column {column!r} is {shown(value)}, not one text or one label")
    if not isinstance(value, bool | int | float | str):
        return str(value)
    return None if value != value else value
