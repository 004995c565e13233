"""Parses files of every format; errors say where a file is wrong."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skip_exp.data.table import Dialect, Table
from skip_exp.data.text import check_columns, shown
from skip_exp.errors import DataError, one_line
from skip_exp.utils.files import find_suffix

_LONGEST_FIELD = 2**31 - 1  # characters; the default of 131,072 is too short for documents
_LONG = 500  # characters of a parser's message
_SEPARATORS = (",", ";", "\t")
_ENCODE = "give its encoding, such as --encoding latin-1 (in a job data.encoding=latin-1)"


def parse_file(path: Path, wanted: Sequence[str], dialect: Dialect) -> Table:
    """The columns ``wanted`` of an existing file whose name ends in one of ``files.SUFFIXES``.

    Raises:
        DataError: a column is missing.
        OSError, ValueError: the file cannot be read or parsed.
    """
    return _PARSERS[find_suffix(path).removesuffix(".gz")](path, wanted, dialect)


def _parse_csv(path: Path, wanted: Sequence[str], dialect: Dialect) -> Table:
    csv.field_size_limit(_LONGEST_FIELD)
    file = io.StringIO(_read_text(path, dialect.encoding), newline="")
    sep = _find_separator(path, file, dialect.sep)
    reader = csv.reader(file, delimiter=sep, strict=True)
    rows: dict[int, dict[str, Any]] = {}  # by the line where they begin
    bad: dict[int, str] = {}
    try:
        header = next(reader, None)
        if header is None:
            return Table(str(path), {})
        where = str(path) if len(header) > 1 else f"{path} with sep={sep!r}"
        check_columns(header, wanted, where)
        places = {column: header.index(column) for column in wanted}
        last = reader.line_num
        for record in reader:
            line, last = last + 1, reader.line_num
            if len(record) == len(header):
                cells = {column: record[place] for column, place in places.items()}
                rows[line] = {name: cell if cell.strip() else None for name, cell in cells.items()}
            elif record:  # else a blank line
                bad[line] = f"{len(record)} fields, not {len(header)} (quote texts with {sep!r})"
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error} (is every quote closed?)") from error
    return Table(str(path), rows, "line", bad, sep=sep)


def _find_separator(path: Path, file: io.StringIO, given: str | None) -> str:
    """The character between columns: see :class:`Dialect`. A quoted one does not count."""
    if given is not None:
        return "\t" if given == "\\t" else given
    if find_suffix(path).startswith(".tsv"):
        return "\t"
    columns: dict[str, int] = {}
    for sep in _SEPARATORS:
        columns[sep] = len(next(csv.reader(file, delimiter=sep), []))
        file.seek(0)
    return max(columns, key=columns.__getitem__)


def _parse_json(path: Path, wanted: Sequence[str], dialect: Dialect) -> Table:
    content = _read_text(path, dialect.encoding)
    values: dict[int, Any] = {}
    bad: dict[int, str] = {}
    unit = "line"
    if find_suffix(path).removesuffix(".gz") == ".json" and content.lstrip().startswith("["):
        values, unit = dict(enumerate(_json_value(content), 1)), "element"
    else:
        # Not splitlines: it also splits at Unicode line separators inside texts.
        for number, line in enumerate(content.split("\n"), 1):
            try:
                if line.strip():
                    values[number] = _json_value(line)
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


def _parse_parquet(path: Path, wanted: Sequence[str], _: Dialect) -> Table:
    import pyarrow.parquet as pq  # takes half a second, needed for this format only

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, wanted, str(path))
            records = file.read(columns=list(wanted)).to_pylist()
    except DataError:
        raise
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(printable(error)) from error
    return Table(str(path), dict(enumerate(records, 1)))


def _read_text(path: Path, encoding: str) -> str:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"damaged: {error}") from error
    codec = encoding
    if codecs.lookup(encoding).name == "utf-8":
        has_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        codec = "utf-16" if has_mark else "utf-8-sig"
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(codec, "ignore").count("\n") + 1
        name = codec.removesuffix("-sig").upper()
        raise ValueError(f"line {line} is not {name} text; {_ENCODE}") from error


def _json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} (character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def printable(error: Exception) -> str:
    """A parser's message, short and on one line; it may quote unprintable input."""
    return "".join(c if c.isprintable() else "?" for c in one_line(error))[:_LONG]


_PARSERS: dict[str, Callable[[Path, Sequence[str], Dialect], Table]] = {
    ".jsonl": _parse_json,
    ".json": _parse_json,
    ".csv": _parse_csv,
    ".tsv": _parse_csv,
    ".parquet": _parse_parquet,
}
