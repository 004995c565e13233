"""Where examples to classify come from: arguments, a file, or standard input."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from skip_exp.config.schema import DataConfig
from skip_exp.data.given import build_all, columns_of
from skip_exp.data.read import SUFFIXES, decode_lines, read_table
from skip_exp.errors import SkipError
from skip_exp.utils.files import find_suffix


def is_table(file: Path | None) -> bool:
    """Whether a file has named columns, by its ending."""
    return file is not None and find_suffix(file) in SUFFIXES


def read_texts(
    file: Path, text: Sequence[str], reading: DataConfig, columns: Sequence[str] = ()
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The texts of a table's rows, and beside each {row: its number, columns: {name: value}}.

    Args:
        text: columns, or templates of columns.
        columns: those to keep beside the texts; without any, there is no ``columns``.

    Raises:
        DataError: the file cannot be read, lacks a column, or has bad rows.
    """
    table = read_table(file, columns_of(text, *columns), reading.sep, reading.encoding)
    texts, bad = build_all(table.rows, text)
    table.report_bad(bad, reading.drop_bad)
    beside: list[dict[str, Any]] = [{"row": number} for number in texts]
    if columns:
        for row in beside:
            row["columns"] = {name: table.rows[row["row"] - 1][name] for name in columns}
    return list(texts.values()), beside


def read_lines(file: Path | None, encoding: str = "utf-8") -> tuple[Iterable[Any], str]:
    """Examples of a file's lines, or of standard input, and what they are from."""
    if file:
        try:
            return parse_lines(_close_after(file.open("rb")), str(file), encoding), str(file)
        except OSError as error:
            raise SkipError(f"{file}: cannot be read: {error.strerror}") from error
    if sys.stdin.isatty():
        raise SkipError("no text: give it as an argument, with --file, or on standard input")
    return parse_lines(sys.stdin.buffer, "standard input", encoding), "standard input"


def _close_after(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from file


def parse_lines(blocks: Iterable[bytes], where: str, encoding: str = "utf-8") -> Iterator[Any]:
    """One example a line; JSON objects where the first line is one, else texts separated by TABs.

    Args:
        blocks: the bytes of the lines, as :func:`decode_lines` takes them.

    Raises:
        SkipError: a line that is no text in ``encoding``, or broken JSON, or empty with others
            after it (answers would no longer match their lines).
    """
    as_json = False
    empty = 0  # the first line of those without a text that came last
    for number, line in enumerate(decode_lines(blocks, where, encoding), 1):
        text = line.removesuffix("\r")
        if "\0" in text:  # as English in UTF-16 has; it is UTF-8, too
            raise SkipError(f"line {number} of {where} is no text; is it data.encoding=utf-16-le?")
        if not text.strip():
            empty = empty or number
            continue
        if empty:
            raise SkipError(f"line {empty} of {where} is empty")
        example = _json(text) if number == 1 or as_json else None
        as_json = as_json or isinstance(example, dict)
        if as_json and not isinstance(example, dict):
            raise SkipError(f"line {number} of {where} is not a JSON object, as line 1 is")
        yield example if as_json else text.split("\t")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
