"""Reads files of rows: CSV, TSV, JSON, JSON lines and Parquet.

Values stay as they are given. No types are guessed, so "NA" and "007" are texts.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from skip_exp.errors import DataError, did_you_mean, one_line, shown, shown_names
from skip_exp.utils.files import find_suffix

log = logging.getLogger(__name__)

SUFFIXES = (
    ".jsonl", ".json", ".csv", ".tsv", ".parquet",
    ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz",
)  # fmt: skip
FIX = "data.drop_bad=true leaves them out"
_NAMED = 5  # reasons that a message names, and bad rows of each
_LONG = 500  # characters of a parser's message
_SEPARATORS = (",", ";", "\t")
_MARKS = {  # UTF-32 before UTF-16, whose mark is the beginning of its own
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNMARKED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}

Cells = dict[str, Any]  # of a row, by column; an empty one is None


@dataclass(frozen=True)
class Table:
    """Rows as they were given; the first has number 1.

    Attributes:
        where: the rows come from, for messages.
        file: that was read; None for rows that were in memory.
    """

    where: str
    rows: list[Cells]
    file: Path | None = None

    def report_bad(self, bad: Mapping[int, str], drop: bool, advice: str = FIX) -> None:
        """Name the first bad rows: as a warning where they are dropped, else a DataError.

        Args:
            bad: {number of a row: why}.
        """
        if not bad:
            return
        numbers: dict[str, list[int]] = {}  # by reason: a wrong column has one for most of its rows
        for number in sorted(bad):
            numbers.setdefault(bad[number], []).append(number)
        reasons = []
        for reason, rows in numbers.items():
            reasons.append(f"row {shown_names(rows, _NAMED)}: {reason}")
        if len(reasons) > _NAMED:
            reasons[_NAMED:] = [f"and {len(reasons) - _NAMED} other reasons"]
        count = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        text = f"{self.where}: {count}: {'; '.join(reasons)}"
        if not drop:
            raise DataError(f"{text}; {advice}" if advice else text)
        log.warning("data: left out: %s", text)


def read_table(
    path: Path, wanted: Sequence[str], sep: str | None = None, encoding: str = "utf-8"
) -> Table:
    """Read a .jsonl, .json (lines or one array), .csv, .tsv or .parquet file, or one in .gz.

    An empty or blank CSV cell is None, because CSV does not distinguish empty from missing. In the
    other formats ``""`` is an empty text. The first object of a JSON file defines its columns.

    Args:
        wanted: columns to read; each must occur exactly once.
        sep, encoding: as in :class:`skip_exp.config.schema.DataConfig`.

    Raises:
        DataError: the file is missing, has another format, cannot be parsed or lacks a column.
    """
    check_file(path)
    suffix = find_suffix(path)
    if suffix not in SUFFIXES:
        raise DataError(f"cannot read {path}: its name must end in {', '.join(SUFFIXES)}")
    where = str(path)
    kind = suffix.removesuffix(".gz")
    try:
        if kind == ".parquet":
            header, rows = _read_parquet(path, wanted)
        elif kind in (".csv", ".tsv"):
            text = _read_text(path, encoding)
            sep = "\t" if sep == "\\t" or (sep is None and kind == ".tsv") else sep
            sep = sep or _find_separator(text)
            if sep != ",":
                log.info("data: %s: columns are separated by %r", path, sep)
            header, rows = _parse_csv(text, sep)
            # A single column is often a wrong separator, so a message names it.
            where = where if len(header) > 1 else f"{path} with sep={sep!r}"
        else:
            header, rows = _parse_json(_read_text(path, encoding), is_lines=kind == ".jsonl")
        check_columns(header, wanted, where)
        # Parsers that yield rows raise here, within the try.
        cells = [{column: row.get(column) for column in wanted} for row in rows]
    except (OSError, ValueError, EOFError, RecursionError, zlib.error, csv.Error) as error:
        reason = "".join(c if c.isprintable() else "?" for c in one_line(error))[:_LONG]
        hint = " (is every quote closed?)" if isinstance(error, csv.Error) else ""
        raise DataError(f"cannot read {path}: {reason}{hint}") from error
    return Table(str(path), cells, path)


def check_file(path: Path) -> None:
    """Refuse a folder, and a mistyped name: a DataError names files beside it that are near."""
    if os.path.isdir(path):
        raise DataError(f"cannot read {path}: it is a folder, not a file")
    if not os.path.isfile(path):  # no error where it may not look
        beside: list[str] = []
        with suppress(OSError, ValueError):
            beside = os.listdir(path.parent)
        raise DataError(
            f"cannot read {path}: no such file, or no permission{did_you_mean(path.name, beside)}"
        )


def _find_separator(text: str) -> str:
    """What divides the header line into most columns. A quoted character does not count."""

    def count_columns(sep: str) -> int:
        return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=sep), []))

    return max(_SEPARATORS, key=count_columns)


def _parse_csv(text: str, sep: str) -> tuple[list[str], Iterable[Cells]]:
    # Not pandas, which takes the first column for an index where the first row has a field too
    # many, and fills rows that have too few.
    csv.field_size_limit(2**31 - 1)  # the default of 131,072 is too short for documents
    records = csv.reader(io.StringIO(text, newline=""), delimiter=sep, strict=True)
    header = next(records, [])
    return header, _name_cells(header, records, sep)


def _name_cells(header: list[str], records: Iterable[list[str]], sep: str) -> Iterator[Cells]:
    for number, record in enumerate(filter(None, records), 1):  # without blank lines
        if len(record) != len(header):
            raise ValueError(
                f"row {number}: {len(record)} fields, not {len(header)} (quote texts with {sep!r})"
            )
        cells = zip(header, record, strict=True)
        yield {column: cell if cell.strip() else None for column, cell in cells}


def _parse_json(text: str, is_lines: bool) -> tuple[list[str], Iterable[Cells]]:
    is_lines = is_lines or not text.lstrip().startswith("[")
    # Not splitlines: it also splits at Unicode line separators inside texts.
    parts = filter(str.strip, text.split("\n")) if is_lines else json.loads(text)
    rows: list[Cells] = []
    for number, part in enumerate(parts, 1):
        try:
            value = json.loads(part) if is_lines else part
        except (ValueError, RecursionError) as error:
            raise ValueError(f"row {number}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"row {number}: {shown(value)} is no JSON object")
        rows.append(value)
    return list(rows[0]) if rows else [], rows


def _read_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], Iterable[Cells]]:
    import pyarrow.parquet as pq  # takes half a second, needed for this format only

    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow.names, file.read(columns=list(wanted)).to_pylist()
    except Exception as error:  # a damaged file raises many kinds of errors
        raise ValueError(one_line(error)) from error


def _read_text(path: Path, encoding: str) -> str:
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        data = gzip.decompress(data)
    return "\n".join(decode_lines([data], str(path), encoding))


def decode_lines(blocks: Iterable[bytes], where: str, encoding: str) -> Iterator[str]:
    """The lines of a text; joined by a newline, they are the text.

    Bytes are decoded before they are split: in UTF-16 the byte of a newline is half a character.

    Args:
        blocks: of bytes; the first has the mark of UTF-8, UTF-16 or UTF-32, if there is one.
        where: they come from, for messages.
        encoding: of a text without a mark.

    Raises:
        DataError: bytes that are no text in this encoding. The lines before theirs are given.
    """
    blocks = iter(blocks)
    first = next(blocks, b"")
    encoding = _UNMARKED.get(codecs.lookup(encoding).name, encoding)
    for mark, name in _MARKS.items():
        if first.startswith(mark):
            encoding = name
            break
    number = 1
    rest = ""
    try:
        for text in codecs.iterdecode(chain([first], blocks), encoding):
            lines = (rest + text).split("\n")
            rest = lines.pop()  # it may go on in the next block
            number += len(lines)
            yield from lines
    except UnicodeDecodeError as error:
        number += error.object[: error.start].count(b"\n")
        raise DataError(
            f"line {number} of {where} is not {encoding.upper()} text; "
            "give the encoding of the file: data.encoding=NAME, such as cp1252 or latin-1"
        ) from error
    yield rest


def check_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> None:
    """Raise a DataError if a wanted column is missing or occurs twice."""
    for column in wanted:
        count = list(names).count(column)
        if count != 1:
            raise DataError(
                f"{count or 'no'} columns {column!r} in {where} (it has: {shown_names(names)})"
            )
