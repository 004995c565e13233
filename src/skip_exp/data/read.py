"""Reads rows of any kind into one table; errors say where a file is wrong.

Values stay as they are given. No types are guessed, so "NA" and "007" are texts.
"""

import csv
import io
import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skip_exp.data.files import SUFFIXES
from skip_exp.data.text import check_columns, columns_of, shown, texts_of
from skip_exp.errors import DataError, did_you_mean, one_line
from skip_exp.utils.files import Stamp, stamp

log = logging.getLogger(__name__)

_LONGEST_FIELD = 2**31 - 1  # characters; the default of 131,072 is too short for documents
_LONG = 500  # characters of a parser's message
_TOLD = 20  # bad rows that a message names


@dataclass(frozen=True)
class Table:
    """Rows as they were given.

    Attributes:
        where: the rows come from, for messages.
        rows: {number: {column: cell}}; an empty cell is None.
        unit: what the numbers count, e.g. ``line``.
        bad: {number: why} of rows that cannot be read.
        stamp: of the file as it was read; None for rows that were in memory.
    """

    where: str
    rows: dict[int, dict[str, Any]]
    unit: str = "row"
    bad: dict[int, str] = field(default_factory=dict)
    stamp: Stamp | None = None

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows.values()]

    def serves(self, path: Path, columns: Sequence[str]) -> bool:
        """Whether all rows have these columns, and the file at ``path`` is as it was read."""
        has_columns = all(row.keys() >= {*columns} for row in self.rows.values())
        return has_columns and self.stamp in (None, stamp(path))

    def report_bad(self, bad: Mapping[int, str], drop: bool, fix: str, allowed: str = "") -> None:
        """Name all bad rows at once: as a warning where they are dropped, else a DataError.

        Args:
            fix: what sets ``drop``; empty where that would leave nothing.
            allowed: the labels that are, if one is not.
        """
        if not bad:
            return
        told: dict[str, list[int]] = {}  # by reason: a wrong column has one for most of its rows
        for number in sorted(bad)[:_TOLD]:
            told.setdefault(bad[number], []).append(number)
        reasons = [f"{self.unit} {', '.join(map(str, at))}: {why}" for why, at in told.items()]
        if len(bad) > _TOLD:
            reasons.append(f"and {len(bad) - _TOLD} more")
        rows = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        text = f"{self.where}: {rows}: {'; '.join(reasons)}{allowed}"
        if not drop:
            raise DataError(f"{text}; {fix} leaves them out" if fix else text)
        log.warning("data: left out: %s", text)


def read_table(path: Path, wanted: Sequence[str]) -> Table:
    """Read a .jsonl, .json (lines or one array), .csv or .parquet file.

    An empty or blank CSV cell is None, because CSV does not distinguish empty from missing. In the
    other formats ``""`` is an empty text. The first object of a JSON file defines its columns.

    Args:
        wanted: columns to read; each must occur exactly once.

    Raises:
        DataError: the file is missing, has another format, cannot be parsed or lacks a column.
    """
    if os.path.isdir(path):
        raise DataError(f"cannot read {path}: it is a folder, not a file")
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"cannot read {path}: its name must end in {', '.join(SUFFIXES)}")
    if not os.path.isfile(path):  # no error where it may not look
        beside: list[str] = []
        with suppress(OSError, ValueError):
            beside = os.listdir(path.parent)
        why = f"no such file, or no permission{did_you_mean(path.name, beside)}"
        raise DataError(f"cannot read {path}: {why}")
    before = stamp(path)
    try:
        return replace(read(path, wanted), stamp=before)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {_printable(error)}") from error


def read_texts(
    path: Path,
    text: Sequence[str],
    more: Sequence[str] = (),
    drop_bad: bool = False,
    fix: str = "--drop-bad",
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The texts of a file's rows, and beside each {line: its number, columns: {name: value}}.

    Args:
        text: columns, or templates of columns.
        more: columns to keep beside the texts; without any, there is no ``columns``.
        drop_bad: leave out rows without a text, with a warning.
        fix: what sets ``drop_bad``, for messages.

    Raises:
        DataError: the file cannot be read, lacks a column, or has bad rows.
    """
    table = read_table(path, columns_of(text, *more))
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
    label: str,
    labels: Sequence[Any] | None = None,
    more: Sequence[str] = (),
    what: str = "data",
) -> Table:
    """The rows of ``data`` as a Python user has them.

    Args:
        data: path of a CSV, JSON, JSON lines or Parquet file; a pandas data frame; a
            ``datasets.Dataset``; a list of rows as dictionaries; or, with ``labels``, a list of
            texts or pairs.
        text: columns, or templates of columns; lists of texts get these names.
        label: column of the labels.
        labels: one per text of a list.
        more: columns that are needed beside these.
        what: the argument that ``data`` is, for messages.

    Raises:
        DataError: none of these, a file that cannot be read, a missing column, or lists of
            different lengths.
    """
    wanted = columns_of(text, label, *more)
    if labels is not None:
        if hasattr(data, "columns") or isinstance(data, str | Path) or isinstance(labels, str):
            why = "are for a list of texts; of a file or a data frame, name the column: label="
            raise DataError(f"labels: {why}")
        return _from_frame(_frame_of_lists(data, text, label, labels), wanted, "the lists")
    if isinstance(data, str | Path):
        return read_table(Path(data).expanduser(), wanted)
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _from_frame(data, wanted, "the data frame")
    if hasattr(data, "to_pandas") and hasattr(data, "features"):  # datasets.Dataset
        return dataset_to_table(data, wanted, "the data set", label, read_class_names(data, label))
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
        frame[label] = [names[int(i)] if i in range(len(names)) else None for i in frame[label]]
    return _from_frame(frame, wanted, where)


def read_class_names(data: Any, label: str) -> list[str] | None:
    """The names of the classes in order, where ``data`` is a data set that has them."""
    features = getattr(data, "features", None)
    return getattr(features.get(label), "names", None) if isinstance(features, Mapping) else None


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

    Raises:
        ValueError: bytes, or a value with several parts.
    """
    if isinstance(value, str | None):
        return value
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError):  # several values, or none
            value = value.item()
    if isinstance(value, bytes | bytearray):
        raise ValueError(f"column {column!r} is {shown(value)}, not a text; decode it first")
    if isinstance(value, Collection) or hasattr(value, "item"):
        raise ValueError(f"column {column!r} is {shown(value)}, not one text or one label")
    if not isinstance(value, bool | int | float | str):
        return str(value)
    return None if value != value else value


def _read_csv(path: Path, wanted: Sequence[str]) -> Table:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    rows: dict[int, dict[str, Any]] = {}  # by the line where they begin
    bad: dict[int, str] = {}
    try:
        header = next(reader, None)
        if header is None:
            return Table(str(path), {})
        check_columns(header, wanted, str(path))
        places = {column: header.index(column) for column in wanted}
        last = reader.line_num
        for record in reader:
            line, last = last + 1, reader.line_num
            if len(record) == len(header):
                cells = {column: record[place] for column, place in places.items()}
                rows[line] = {name: cell if cell.strip() else None for name, cell in cells.items()}
            elif record:  # else a blank line
                bad[line] = f"{len(record)} fields, not {len(header)} (quote texts with commas)"
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error} (is every quote closed?)") from error
    return Table(str(path), rows, "line", bad)


def _read_json(path: Path, wanted: Sequence[str]) -> Table:
    content = _content(path)
    values: dict[int, Any] = {}
    bad: dict[int, str] = {}
    unit = "line"
    if path.suffix.lower() == ".json" and content.lstrip().startswith("["):
        values, unit = dict(enumerate(_parse(content), 1)), "element"
    else:
        # Not splitlines: it also splits at Unicode line separators inside texts.
        for number, line in enumerate(content.split("\n"), 1):
            try:
                if line.strip():
                    values[number] = _parse(line)
            except ValueError as error:
                bad[number] = str(error)
    rows: dict[int, dict[str, Any]] = {}
    for number, value in values.items():
        if not isinstance(value, dict):
            bad[number] = f"{shown(value)} is no JSON object"
            continue
        if not rows:
            check_columns(list(value), wanted, str(path))
        rows[number] = {column: value.get(column) for column in wanted}
    return Table(str(path), rows, unit, bad)


def _read_parquet(path: Path, wanted: Sequence[str]) -> Table:
    import pyarrow.parquet as pq  # takes half a second, needed for this format only

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, wanted, str(path))
            records = file.read(columns=list(wanted)).to_pylist()
    except DataError:
        raise
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(_printable(error)) from error
    return Table(str(path), dict(enumerate(records, 1)))


_READERS: dict[str, Callable[[Path, Sequence[str]], Table]] = {
    ".jsonl": _read_json,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _content(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _printable(error: Exception) -> str:
    """A parser's message, short and on one line; it may quote unprintable input."""
    return "".join(c if c.isprintable() else "?" for c in one_line(error))[:_LONG]
