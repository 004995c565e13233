"""Files and frames as people bring them: each is read, or refused in one line that says the cure.

Fast: this reads and splits, and trains nothing.
"""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.data.read import read_table
from skip_exp.data.rows import Rows, get_labels
from skip_exp.data.sources import load_rows
from skip_exp.errors import ConfigError, DataError
from tests.helpers.given import compose_given, describe

Cells = list[tuple[Any, Any]]
GOOD: Cells = [(f"text {i}", ("bad", "good")[i // 2 % 2]) for i in range(40)]
LATIN: Cells = [*GOOD, ("na\u00efve", "good")]
DOCUMENT = "word " * 50_000
ROW_3 = 'text;label\n"two\n\nlines";0\n\n;1\na;b;1\n'  # has a field too many; lines are no rows


def written(rows: Cells, sep: str = ",") -> bytes:
    """A CSV file whose columns are ``text`` and ``label``."""
    return pd.DataFrame(rows, columns=["text", "label"]).to_csv(index=False, sep=sep).encode()


def lines(rows: Cells) -> bytes:
    """The same as JSON lines."""
    return b"".join(json.dumps({"text": t, "label": x}).encode() + b"\n" for t, x in rows)


def load(data: Any, root: Path, *overrides: str, **options: Any) -> Rows:
    """The rows of a job on ``data``, as `skip_exp.fit` reads them."""
    task = describe(data, root, overrides=overrides, **options)
    reading = to_object(compose_given(*overrides).data, DataConfig)
    return load_rows(to_object(task, TaskConfig), reading)


def count(rows: Rows) -> int:
    return len(rows.train) + len(rows.select) + len(rows.validation)


READ: dict[str, tuple[str, bytes, list[str], Cells]] = {
    "semicolons": ("t.csv", written(GOOD, ";"), [], GOOD),
    "semicolons, named": ("t.csv", written(GOOD, ";"), ["data.sep=;"], GOOD),
    "tabs": ("t.csv", written(GOOD, "\t"), [], GOOD),
    "bars": ("t.csv", written(GOOD, "|"), ["data.sep=|"], GOOD),
    ".tsv": ("t.tsv", written([*GOOD, ("a;b;c", "bad")], "\t"), [], [*GOOD, ("a;b;c", "bad")]),
    "a .tsv of commas": ("t.tsv", written(GOOD), ["data.sep=,"], GOOD),
    ".csv.gz": ("t.CSV.gz", gzip.compress(written(GOOD)), [], GOOD),
    ".csv.gz of semicolons": ("t.csv.gz", gzip.compress(written(GOOD, ";")), [], GOOD),
    ".tsv.gz": ("t.tsv.gz", gzip.compress(written(GOOD, "\t")), [], GOOD),
    ".jsonl.gz": ("t.jsonl.gz", gzip.compress(lines(GOOD)), [], GOOD),
    "latin-1": (
        "t.csv", written(LATIN).decode().encode("latin-1"), ["data.encoding=latin-1"], LATIN,
    ),
    "UTF-16": ("t.csv", written(LATIN, "\t").decode().encode("utf-16"), [], LATIN),
    "UTF-16 lines": ("t.jsonl", lines(LATIN).decode().encode("utf-16"), [], LATIN),
    "BOM": ("t.csv", b"\xef\xbb\xbf" + written(LATIN, ";"), [], LATIN),
    "more": ("t.csv", written([*GOOD, ("a\n\nb; c", "bad"), ("\U0001f600", "good")]), [], [
        *GOOD, ("a\n\nb; c", "bad"), ("\U0001f600", "good")
    ]),
    "a document": ("t.csv", written([*GOOD, (DOCUMENT, "bad")]), [], [*GOOD, (DOCUMENT, "bad")]),
    "a quoted separator": (
        "t.csv", b'"x;y;z;1",text,label\n' + b"".join(b"0,%s\n" % line for line in
        written(GOOD).splitlines()[1:]), [], GOOD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_an_odd_file_is_read(tmp_path: Path, kind: str) -> None:
    name, content, options, expected = READ[kind]
    (tmp_path / name).write_bytes(content)
    reading = compose_given(*options).data
    table = read_table(tmp_path / name, ["text", "label"], reading.sep, reading.encoding)
    assert [(row["text"], row["label"]) for row in table.rows] == expected
    assert count(load(tmp_path / name, tmp_path, *options)) == len(expected)


DROP = "data.drop_bad=true"
CLASSES_100 = [(f"text {i}", f"class {i % 100}") for i in range(400)]
RARE = [(f"text {i}", "yes" if i % 51 == 7 else "no") for i in range(510)]
JOINED = [(f"both {i}", "bad;good") for i in range(20)]
# Rows, how many are used, and what a warning names; None: nothing is warned of.
FINE: dict[str, tuple[Cells, list[str], int, str | None]] = {
    "twenty rows": (GOOD[:28], [], 28, None),
    "one in fifty": (RARE, [], 510, "has: yes"),
    "a hundred classes": (CLASSES_100, [], 400, "class 0, class 10, class 12"),
    "duplicates": ([*GOOD, *GOOD[:10]], [], 50, None),
    "missing labels": ([*GOOD, ("no", None), ("none", "")], [DROP], 40, "2 bad rows"),
    "two labels": ([*GOOD, ("text 0", "good"), ("text 1", "good")], [], 42, "2 texts"),
    "a class of one row": ([*GOOD, ("alone", "odd")], [], 41, "odd"),
    "joined labels": ([*GOOD, *JOINED], [], 60, None),
    "one number twice": ([(t, {"bad": "1.5", "good": "1.50"}[x]) for t, x in GOOD], [], 40, None),
    "a truth twice": ([(t, {"bad": "TRUE", "good": "1"}[x]) for t, x in GOOD], [], 40, None),
    "newlines and emoji": ([*GOOD, ("a\n\nb;\tc", "bad"), ("\U0001f600", "good")], [], 42, None),
    "lists of labels": ([(t, [x, "all"]) for t, x in GOOD], ["task.kind=many_labels"], 40, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize("form", ["file", "frame", "dictionaries"])
def test_odd_rows_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, form: str
) -> None:
    rows, options, used, named = FINE[kind]
    data = given(rows, form, tmp_path)
    with caplog.at_level(logging.WARNING, "skip_exp"):
        found = load(data, tmp_path, *options)
    assert count(found) == used
    assert len(caplog.messages) == (named is not None), caplog.messages
    assert (named or "") in caplog.text


def given(rows: Cells, form: str, folder: Path) -> Any:
    """Rows as a CSV file, a data frame, or dictionaries."""
    if form == "file":
        (folder / "t.csv").write_bytes(written(rows))
        return folder / "t.csv"
    frame = pd.DataFrame(rows, columns=["text", "label"])
    return frame if form == "frame" else frame.to_dict("records")


# The file, how it is read, and what the line has to name.
REFUSED: dict[str, tuple[str, bytes, list[str], str]] = {
    "latin-1": ("t.csv", written(LATIN).decode().encode("latin-1"), [], "line 42 data.encoding="),
    "a wrong encoding": ("t.csv", written(LATIN), ["data.encoding=ascii"], "line 42 ASCII"),
    "no encoding": ("t.csv", written(GOOD), ["data.encoding=latin-0"], "encoding=latin-0 utf-8"),
    "no text encoding": ("t.csv", written(GOOD), ["data.encoding=base64"], "encoding=base64 utf-8"),
    "no separator": ("t.csv", written(GOOD), ["data.sep=';;'"], "sep=;; one"),
    "a wrong separator": ("t.csv", written(GOOD), ["data.sep=;"], "sep=';' text,label"),
    "a damaged .gz": ("t.csv.gz", gzip.compress(written(GOOD))[:-9], [], "t.csv.gz ended"),
    "no .gz": ("t.csv.gz", written(GOOD), [], "t.csv.gz"),
    "a .gz of anything": ("t.gz", gzip.compress(written(GOOD)), [], "t.gz .csv.gz"),
    "missing labels": (
        "t.csv",
        written([*GOOD, ("x", None)]),
        [],
        "row 41 empty data.drop_bad=true",
    ),
    "one class": ("t.csv", written([("a", "x")] * 40), [], "label=label 1"),
    "each its class": ("t.csv", written([(f"a {i}", i) for i in range(40)]), [], "label=label 40"),
    "a comma in its texts": (
        "t.csv",
        b"text,label\n" + b"late, again,bad\n" * 40 + b"x,good\n",
        [],
        "row 1",  # not that there are too few classes
    ),
    "few rows": ("t.csv", written(GOOD[:20]), [], "16 20"),
    "lists in lists": ("t.jsonl", lines([(t, [[x], "c"]) for t, x in GOOD]), [], "row 1 ['bad']"),
    "header only": ("t.csv", b"text;label\n", [], "0 rows"),
    "empty": ("t.csv", b"", [], "'text' nothing"),
    "a field too many": ("t.csv.gz", gzip.compress(ROW_3.encode("utf-16")), [], "row 3: 3 fields"),
    "a mistyped column": (
        "t.csv",
        written(GOOD, ";").replace(b"label", b"lable"),
        [],
        "'label' text, lable",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_odd_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    name, content, options, names = REFUSED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((DataError, ConfigError)) as refused:
        load(tmp_path / name, tmp_path, *options)
    told = str(refused.value)
    assert "\n" not in told
    assert [word for word in names.split() if word not in told] == [], told


@pytest.mark.parametrize(
    ("rows", "options", "named"),
    [
        ([*GOOD, ("x", None)], {}, "row 41"),
        ([*GOOD, ("x", float("nan"))], {}, "row 41"),
        ([*GOOD, (None, "bad")], {}, "row 41"),
        ([("a", "x")] * 40, {}, "label=label"),
        ([(f"a {i}", i) for i in range(40)], {}, "label=label"),
        (GOOD[:20], {}, "16 train rows"),
        ([(t, [[x], "c"]) for t, x in GOOD], {}, "label ['bad']"),
        ([], {}, "label=label"),
        (GOOD, {"label": "lable"}, "'lable'"),
    ],
)
def test_an_odd_frame_is_refused_in_one_line(
    tmp_path: Path, rows: Cells, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(DataError) as refused:
        load(given(rows, "frame", tmp_path), tmp_path, **options)
    assert named in str(refused.value) and "\n" not in str(refused.value)


def test_the_encoding_changes_the_rows(tmp_path: Path) -> None:
    """So it is in the key of the job; the same rows in another dialect are the same rows."""
    path = tmp_path / "t.csv"
    path.write_bytes(written(LATIN))
    plain = load(path, tmp_path)
    other = load(path, tmp_path, "data.encoding=latin-1")
    assert other.fingerprint != plain.fingerprint
    path.write_bytes(written(LATIN, ";"))
    assert load(path, tmp_path).fingerprint == plain.fingerprint
    assert {*get_labels(plain.train)} == {0, 1}
