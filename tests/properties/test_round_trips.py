"""Texts and labels come back from every kind of file as they were written."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig
from skip_exp.data.given import to_table
from skip_exp.data.read import Table, read_table
from skip_exp.data.rows import to_rows

pytestmark = pytest.mark.property

COLUMNS = ["text", "label"]
ODD = (
    *("NA", "None", "null", "nan", "NaN", "#N/A", "true", "no", "007", "1.0", "1e5", "-", "'"),
    *('"', '""', '"a"', ",", "a,b", ";", "\t", "|", "a\nb", "a\r\nb", "\r", "\n\n", "\\n", "\\"),
    *("\ufeff", "\ufeffa", "a\ufeff", "\x00", "\x1a", "\u2028", "\x85", "\xa0a", " a ", "", " "),
    *("\U0001f600", "e\u0301", "\u202eabc", "=1+1", "{text}", "[1]", '{"a": 1}', "#", "--"),
)
PIECES = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TEXTS = st.lists(PIECES, min_size=1, max_size=4).map("".join)
NAMES = st.sampled_from([name for name in ODD if name.isprintable() and name.strip()])
ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@st.composite
def tables(draw: Any) -> tuple[pd.DataFrame, list[str]]:
    """A frame of odd texts, and its classes."""
    labels = draw(st.lists(NAMES, min_size=2, max_size=4, unique_by=str.casefold))
    cells = st.tuples(TEXTS, st.sampled_from(labels))
    rows = draw(st.lists(cells, min_size=1, max_size=6))
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object), labels


def encode_frame(frame: pd.DataFrame, ending: str, whole: bool) -> str:
    """The text of a file.

    Args:
        whole: quote every CSV field, escape every JSON character beyond ASCII.
    """
    records = frame.to_dict("records")
    if ending == ".json":
        return json.dumps(records, ensure_ascii=whole)
    if ending == ".jsonl":
        return "\n".join(json.dumps(record, ensure_ascii=whole) for record in records)
    stream = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if whole else csv.QUOTE_MINIMAL
    separator = "\t" if ending == ".tsv" else ","
    writer = csv.writer(stream, delimiter=separator, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows(frame.itertuples(index=False))
    return stream.getvalue()


def write_frame(frame: pd.DataFrame, path: Path, ending: str, whole: bool, encoding: str) -> None:
    """Write a file, compressed where its name ends in .gz."""
    if ending == ".parquet":
        frame.to_parquet(path)
        return
    data = encode_frame(frame, ending, whole).encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("ending", ENDINGS)
@given(
    table=tables(),
    whole=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    compressed=st.booleans(),
)
def test_a_file_gives_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    table: tuple[pd.DataFrame, list[str]],
    whole: bool,
    encoding: str,
    compressed: bool,
) -> None:
    frame, labels = table
    name = f"rows{ending}"
    if compressed and ending != ".parquet":
        name += ".gz"
    path = tmp_path_factory.getbasetemp() / name
    write_frame(frame, path, ending, whole, encoding)
    expected = frame.to_dict("records")
    if ending in (".csv", ".tsv"):  # where empty and missing are the same
        for row in expected:
            row["text"] = row["text"] if row["text"].strip() else None
    found = read_table(path, COLUMNS)
    assert found.rows == expected
    assert to_table(path, ["text"], "label", DataConfig()).rows == expected
    check_rows(found, expected, labels)


@given(table=tables())
def test_a_frame_gives_what_it_holds(table: tuple[pd.DataFrame, list[str]]) -> None:
    frame, labels = table
    expected = frame.to_dict("records")
    for data in (frame, frame.convert_dtypes(), expected):
        found = to_table(data, ["text"], "label", DataConfig())
        assert found.rows == expected
        check_rows(found, expected, labels)


def check_rows(table: Table, expected: list[dict[str, Any]], labels: list[str]) -> None:
    """The rows of a task have the texts and the indices of the labels; blank cells are left out."""
    spec = TaskConfig(name="odd", text=["text"], labels=labels, metrics=["accuracy"])
    texts = {number: row["text"] for number, row in enumerate(expected, 1)}
    texts = {number: text for number, text in texts.items() if text is not None}
    if not texts:
        return
    rows = to_rows(table, spec, "train", drop_bad=True)
    assert {number: row["texts"] for number, row in rows.items()} == {
        number: [text] for number, text in texts.items()
    }
    for number, row in rows.items():
        assert labels[row["label"]] == expected[number - 1]["label"]
