"""Reads the wanted columns of a data file; errors say where the file is wrong.

Values stay as the file has them. No types are guessed, so "NA" and "007" are texts.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.data.files import SUFFIXES
from skip_exp.data.text import shown, shown_names
from skip_exp.errors import DataError

_FIELD = 2**31 - 1  # characters of a CSV field; the default of 131,072 is too short for documents
_LONG = 500  # characters of a parser's message


def read_table(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    """Read a .jsonl, .json (lines or one array), .csv or .parquet file.

    An empty CSV cell is None, because CSV does not distinguish empty from missing. In the other
    formats ``""`` is an empty text. The first object of a JSON file defines its columns.

    Args:
        wanted: columns to read; each must occur exactly once.

    Raises:
        DataError: the file is missing, has another format, cannot be parsed or lacks a column.
    """
    if path.is_dir():
        raise DataError(f"cannot read {path}: it is a folder, not a file")
    if path.suffix not in _READERS:
        raise DataError(f"cannot read {path}: its name must end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"cannot read {path}: no such file")
    try:
        return _READERS[path.suffix](path, wanted)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {_one_line(error)}") from error


def check_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise a DataError if a wanted column is missing or occurs twice."""
    for column in wanted:
        if (found := list(names).count(column)) != 1:
            says = f"{found} columns" if found else "no column"
            raise DataError(f"{says} {column!r} in {where} (it has: {shown_names(names)})")


def _read_csv(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    csv.field_size_limit(_FIELD)
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    rows: list[list[str | None]] = []
    try:
        header = next(reader, None)
        if header is None:
            return pd.DataFrame(columns=list(wanted))
        check_columns(header, wanted, str(path))
        places = [header.index(column) for column in wanted]
        for record in reader:
            if not record:
                continue  # a blank line
            if len(record) != len(header):
                raise ValueError(
                    f"row {len(rows) + 1} has {len(record)} fields, the header has {len(header)}; "
                    "texts that contain commas need quotes"
                )
            rows.append([record[place] or None for place in places])
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error} (is every quote closed?)") from error
    return pd.DataFrame(rows, columns=list(wanted), dtype=object)


def _read_json(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    content = _content(path)
    if path.suffix == ".json" and content.lstrip().startswith("["):
        rows, unit = _parsed(content, "the array"), "element"
        numbered = list(enumerate(rows, 1))
    else:
        # Not splitlines: it also splits at Unicode line separators inside texts.
        lines, unit = enumerate(content.split("\n"), 1), "line"
        numbered = [(n, _parsed(line, f"line {n}")) for n, line in lines if line.strip()]
    for number, row in numbered:
        if not isinstance(row, dict):
            raise ValueError(f"{unit} {number} is {shown(row)}, not a JSON object")
    if numbered:
        check_columns(list(numbered[0][1]), wanted, str(path))
    return _table({column: [row.get(column) for _, row in numbered] for column in wanted})


def _read_parquet(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    import pyarrow.parquet as pq  # takes half a second, needed for this format only

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, wanted, str(path))
            table = file.read(columns=list(wanted))
            return _table({column: table[column].to_pylist() for column in wanted})
    except DataError:
        raise
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(_one_line(error)) from error


_READERS: dict[str, Callable[[Path, Sequence[str]], pd.DataFrame]] = {
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


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what} is not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deeply") from error


def _table(columns: dict[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _one_line(error: Exception) -> str:
    """A parser's message on one line; it may quote unprintable input."""
    line = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in line)[:_LONG]
