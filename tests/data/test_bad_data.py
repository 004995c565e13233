"""Every mistake in a data file: one line that says where and what, as a job reads the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skip_exp.config.schema import DataConfig
from skip_exp.data.given import to_table
from skip_exp.data.read import SUFFIXES, read_table
from skip_exp.data.rows import Rows, get_labels
from skip_exp.errors import DataError

from .conftest import build, load, rows, spec, table

Write = Callable[[Path], Any]
GOOD = rows(20)


def csv(*lines: str, end: str = "\n", head: str = "s,label") -> bytes:
    """A CSV of twenty good rows whose first ones are ``lines``."""
    good = [f"text {i},{i % 2}" for i in range(len(lines), 20)]
    return (end.join([head, *lines, *good]) + end).encode()


def jsonl(*lines: str) -> bytes:
    """The same as JSON lines."""
    return "\n".join([*lines, *(json.dumps(row) for row in GOOD[len(lines) :])]).encode()


def load_file(path: Path, **changes: Any) -> Rows:
    """The rows of a file as validation split, because train would be cut."""
    files = {"train": str(path), "validation": str(path)}
    return load(spec(files=files, **changes))


BAD: dict[str, tuple[str, bytes, str]] = {  # file, content, and where or what is wrong
    "wrong ending": ("t.txt", b"", ".jsonl, .json, .csv, .tsv, .parquet"),
    "empty": ("t.csv", b"", "(it has: nothing)"),
    "header only": ("t.csv", b"s,label\n", "split train"),
    "no header": ("t.csv", b"text,0\n" * 20, "'s' in FILE (it has: text, 0)"),
    "another case": ("t.csv", csv(head="s,Label"), "'label' in FILE (it has: s, Label)"),
    "bars": ("t.csv", csv().replace(b",", b"|"), "sep=',' (it has: s|label)"),
    "a column twice": ("t.csv", csv(head="s,s,label"), "2 columns 's' in FILE"),
    "a comma in one text": ("t.csv", csv("a,0", "b, c,1"), "row 2: 3 fields"),
    "a field missing": ("t.csv", csv("a,0", "b"), "row 2: 1 fields"),
    "a blank cell": ("t.csv", csv("a,0", "  ,1"), "FILE: 1 bad row: row 2: column 's'"),
    "one reason": ("t.csv", csv("a,x", "b,x", "c,y"), "row 1, 2: label 'x'"),
    "an empty cell": ("t.csv", csv("a,0", ",1"), "FILE: 1 bad row: row 2: column 's'"),
    "an open quote": ("t.csv", csv('"a,0'), "quote"),
    "half of a UTF-16 character": (
        "t.jsonl",
        b"\xff\xfe" + jsonl().decode().encode("utf-16-le") + b"\n",
        "line 20 of FILE is not UTF-16",
    ),
    "unknown name": ("t.csv", csv("a,no", "b,maybe"), "row 2: label 'maybe'"),
    "below zero": ("t.jsonl", jsonl('{"s": "a", "label": -1}'), "row 1: label -1"),
    "between two": ("t.jsonl", jsonl('{"s": "a", "label": 0.5}'), "label 0.5"),
    "NaN": ("t.jsonl", jsonl('{"s": "a", "label": NaN}'), "row 1: empty label"),
    "no label": (
        "t.jsonl",
        jsonl(*jsonl().decode().split("\n")[:2], '{"s": "a"}'),
        "row 3: empty label",
    ),
    "null": ("t.jsonl", jsonl('{"s": null, "label": 0}'), "row 1: column 's'"),
    "infinite": ("t.jsonl", jsonl('{"s": 1e999, "label": 0}'), "column 's' is inf"),
    "nested": ("t.jsonl", jsonl('{"s": {"a": 1}, "label": 0}'), "column 's' is {'a': 1}"),
    "half a character": ("t.jsonl", jsonl('{"s": "a \\ud83d", "label": 0}'), r"'\ud83d'"),
    "cut short": ("t.jsonl", jsonl()[:-5], "row 20"),
    "a list as a line": ("t.jsonl", jsonl('["a", 0]'), "row 1: ['a', 0]"),
    "numbers in an array": ("t.json", b"[1, 2]", "row 1: 1 "),
    "an array cut short": ("t.json", b"[1, {", "cannot read FILE: Expecting"),
    "a table by columns": ("t.json", b'{"s": {"0": "a"}}', "'label' in FILE"),
    "nested deeply": ("t.jsonl", b"[" * 100_000, "row 1"),
    "a huge number": (
        "t.jsonl",
        jsonl('{"label": ' + "9" * 9999 + "}"),
        "FILE: row 1: ",
    ),
    "too few rows": ("t.csv", csv()[:-10], "19 train rows in FILE"),
    "one class": ("t.csv", b"s,label\n" + b"a,yes\n" * 20, "'yes'"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, mistake: str) -> None:
    name, content, says = BAD[mistake]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        load_file(path)
    message = str(refused.value)
    assert says in message.replace(str(path), "FILE")
    assert str(path) in message
    assert "\n" not in message and len(message) < len(str(path)) + 250


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path.parent / "gone"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Write, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    make(path)
    with pytest.raises(DataError) as refused:
        load_file(path)
    assert str(refused.value).startswith(f"cannot read {path}: ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", b"\xef\xbb\xbf" + csv()),
        ("crlf.csv", csv(end="\r\n")),
        ("blank_lines.csv", csv().replace(b"\n", b"\n\n")),
        ("spaces.csv", csv("text 0, 0")),
        ("floats.csv", csv("text 0,0.0", "text 1,1.0")),
        ("quotes.csv", csv('"text 0","0"')),
        ("more_columns.csv", csv(head="s,label").replace(b"\n", b",\n")),
        ("bom.jsonl", b"\xef\xbb\xbf" + jsonl()),
        ("crlf.jsonl", jsonl().replace(b"\n", b"\r\n")),
        ("mixed.jsonl", jsonl(
            '{"s": "text 0", "label": "no", "x": 1}', '{"label": 1, "s": "text 1"}'
        )),
        ("spaced.json", b" \n" + json.dumps(GOOD, indent=1).encode()),
    ],
)  # fmt: skip
def test_what_only_looks_odd_reads_the_same(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = load_file(path).validation
    assert [row["texts"] for row in found] == [[row["s"]] for row in GOOD]
    assert get_labels(found) == [row["label"] for row in GOOD]


def test_an_empty_text_is_one_where_the_format_can_say_so(tmp_path: Path) -> None:
    texts = ["", *(f"x {i}" for i in range(19))]
    table = pd.DataFrame({"s": texts, "label": [0, 1] * 10})
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for ending in ("parquet", "jsonl"):
        found = load_file(tmp_path / f"t.{ending}").validation
        assert [row["texts"][0] for row in found] == texts


def test_a_table_in_memory_is_checked_alike() -> None:
    twice = pd.DataFrame([["a", "b", 0]], columns=["s", "s", "label"])
    for bad in (twice, pd.DataFrame({"s": [b"a"], "label": [0]})):
        with pytest.raises(DataError, match="the data frame"):
            build(to_table(bad, ["s"], "label", DataConfig()), spec())


def test_bad_rows_alone_are_not_left_out() -> None:
    for label, can_drop in ((0, True), ("another", False)):
        with pytest.raises(DataError) as refused:
            build(table(s=["a", "b"], label=[label, "other"]), spec())
        assert ("data.drop_bad" in str(refused.value)) == can_drop


def test_a_missing_file_names_one_that_is_near(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").touch()
    with pytest.raises(DataError, match=r"tikets\.csv.*tickets\.csv"):
        read_table(tmp_path / "tikets.csv", ["s"])
