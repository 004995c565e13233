"""Reads the wanted columns of a data file; errors say where the file is wrong.

Values stay as the file has them. No types are guessed, so "NA" and "007" are texts. The index of a
table has the numbers of its rows in the file, and its name says what they count: ``line``, say.
Rows that cannot be read are in ``table.attrs[BAD]``: {number: why}.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.data.files import SUFFIXES
from skip_exp.data.text import check_columns, shown
from skip_exp.errors import DataError, did_you_mean

_FIELD = 2**31 - 1  # characters of a CSV field; the default of 131,072 is too short for documents
_LONG = 500  # characters of a parser's message
BAD = "bad"  # of a table's attrs


def read_table(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
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
    try:
        return read(path, wanted)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {_one_line(error)}") from error


def _read_csv(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    csv.field_size_limit(_FIELD)
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    rows: dict[int, list[str | None]] = {}  # by the line where they begin
    bad: dict[int, str] = {}
    try:
        header = next(reader, None)
        if header is None:
            return pd.DataFrame(columns=list(wanted))
        check_columns(header, wanted, str(path))
        places, last = [header.index(column) for column in wanted], reader.line_num
        for record in reader:
            line, last = last + 1, reader.line_num
            if len(record) == len(header):
                rows[line] = [_cell(record[place]) for place in places]
            elif record:  # else a blank line
                bad[line] = f"{len(record)} fields, not {len(header)} (quote texts with commas)"
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error} (is every quote closed?)") from error
    columns = zip(*rows.values(), strict=True) if rows else ([] for _ in wanted)
    return _table(dict(zip(wanted, columns, strict=True)), [*rows], "line", bad)


def _cell(text: str) -> str | None:
    return text if text.strip() else None


def _read_json(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    content = _content(path)
    bad: dict[int, str] = {}
    if path.suffix.lower() == ".json" and content.lstrip().startswith("["):
        values, unit = dict(enumerate(_parsed(content), 1)), "element"
    else:
        # Not splitlines: it also splits at Unicode line separators inside texts.
        lines, unit, values = enumerate(content.split("\n"), 1), "line", {}
        for number, line in lines:
            try:
                values |= {number: _parsed(line)} if line.strip() else {}
            except ValueError as error:
                bad[number] = str(error)
    rows = {number: row for number, row in values.items() if isinstance(row, dict)}
    bad |= {n: f"{shown(row)} is no JSON object" for n, row in values.items() if n not in rows}
    if rows:
        check_columns(list(next(iter(rows.values()))), wanted, str(path))
    columns = {column: [row.get(column) for row in rows.values()] for column in wanted}
    return _table(columns, [*rows], unit, dict(sorted(bad.items())))


def _read_parquet(path: Path, wanted: Sequence[str]) -> pd.DataFrame:
    import pyarrow.parquet as pq  # takes half a second, needed for this format only

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, wanted, str(path))
            table = file.read(columns=list(wanted))
            columns = {column: table[column].to_pylist() for column in wanted}
            return _table(columns, range(1, table.num_rows + 1), "row")
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


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _table(
    columns: Mapping[str, Sequence[Any]],
    numbers: Sequence[int],
    unit: str,
    bad: Mapping[int, str] | None = None,
) -> pd.DataFrame:
    index = pd.Index(numbers, name=unit)
    table = pd.DataFrame(
        {name: pd.Series(values, index, dtype=object) for name, values in columns.items()}
    )
    table.attrs[BAD] = dict(bad or {})
    return table


def _one_line(error: Exception) -> str:
    """A parser's message on one line; it may quote unprintable input."""
    line = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in line)[:_LONG]
