"""Data files with anything in them: rows that are valid, or one line; never another error."""

import io
import json
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from skip_exp.config.task import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.read import read_table
from skip_exp.errors import DataError, SkipError
from skip_exp.skill.examples import parse_lines

from .conftest import build, spec

TASKS = (spec(), spec(text=["{s} {t}"], labels=["1", "2", "3"]), spec(text=["s", "t"]))
ENDINGS = (".csv", ".json", ".jsonl", ".parquet")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LABEL = st.sampled_from(["0", "1", "no", "yes", "1.0", 0, 1, True, 2.0])
SCALAR = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXT
ODD = st.recursive(
    SCALAR | st.just("\ud83d") | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ROW = st.fixed_dictionaries({"s": TEXT, "t": TEXT, "label": LABEL})
ODD_ROW = st.dictionaries(st.sampled_from(["s", "t", "label", "", "S", "x"]), ODD, max_size=5)


PIECES = (b'"', b",", b"\r", b"\n", b"\0", b"[", b"{", b"\xff", b"1e999", b"NaN", b"\\ud83d")


def examples(count: int, drawn: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Run ``check`` on ``count`` examples; SKIP_EXP_HOSTILE_SEED repeats the seed printed."""
    number = int(os.environ.get("SKIP_EXP_HOSTILE_SEED") or random.randrange(2**32))
    print(f"SKIP_EXP_HOSTILE_SEED={number}")

    def test(example: Any) -> None:
        check(example)

    how = settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # one odd value is short enough as it is
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(how(given(drawn)(test)))()


@st.composite
def altered_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with bits flipped, its end or a piece lost, or foreign bytes put in."""
    at = draw(st.integers(0, len(content) - 1))
    how = draw(st.sampled_from(["flip", "flip near the start", "cut", "lose", "insert"]))
    if how.startswith("flip"):
        at = at if how == "flip" else at % min(len(content), 200)
        return (
            content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
        )
    if how == "cut":
        return content[:at]
    if how == "lose":
        return content[:at] + content[at + draw(st.integers(1, 64)) :]
    piece = draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=64))
    return content[:at] + piece * draw(st.sampled_from([1, 1, 3, 2000])) + content[at:]


def written(ending: str, rows: list[dict[str, Any]]) -> bytes:
    """Good rows in a format, as its library writes them."""
    table, file = pd.DataFrame(rows, columns=["s", "t", "label"], dtype=object), io.BytesIO()
    if ending == ".csv":
        table.to_csv(file, index=False, errors="replace")
    elif ending == ".parquet":
        table.astype(str).to_parquet(file)
    elif ending == ".json":
        file.write(json.dumps(rows).encode())
    else:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    return file.getvalue()


def check(ending: str, content: bytes) -> None:
    """Every task reads the file to valid rows or refuses it in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{ending}"
        path.write_bytes(content)
        for task in TASKS:
            try:
                columns = ("s", "t", task.label)
                rows = build(read_table(path, columns), task)
            except DataError as error:
                assert str(path) in str(error)
                assert str(error).isprintable() and len(str(error)) < 1000
            else:
                assert rows and all(valid(row, task) for row in rows)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


def valid(row: Row, task: TaskConfig) -> bool:
    for text in row["texts"]:
        text.encode()  # half a surrogate pair cannot be
    is_index = type(row["label"]) is int and 0 <= row["label"] < task.num_labels
    return is_index and len(row["texts"]) == len(task.text)


def parquet(kinds: list[str]) -> bytes:
    """Columns of any types, with a missing cell each."""
    cells: dict[str, list[Any]] = {
        "i": [0, 1], "f": [0.0, 1.0], "b": [False, True], "text": ["0", "1"], "bytes": [b"0", b"1"],
        "list": [[0], [1]], "time": [pd.Timestamp(0), pd.Timestamp(1)],
    }  # fmt: skip
    columns = zip(("s", "t", "label"), kinds, strict=True)
    file = io.BytesIO()
    pd.DataFrame({name: [*cells[kind], None] for name, kind in columns}).to_parquet(file)
    return file.getvalue()


ROWS, ODD_ROWS = st.lists(ROW, min_size=1, max_size=4), st.lists(ODD_ROW | ODD, max_size=4)
KINDS = st.sampled_from(["i", "f", "b", "text", "bytes", "list", "time"])
FILES = {
    **{f"damaged {e}": (e, ROWS.map(partial(written, e)).flatmap(altered_bytes)) for e in ENDINGS},
    "any .json": (".json", ODD_ROWS.map(lambda rows: json.dumps(rows).encode())),
    "any .jsonl": (".jsonl", ODD_ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())),
    "any .parquet": (".parquet", st.lists(KINDS, min_size=3, max_size=3).map(parquet)),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_anything_in_it(kind: str) -> None:
    ending, contents = FILES[kind]
    examples(60, contents, partial(check, ending))


def test_lines_to_be_answered() -> None:
    lines = st.lists(ROW.map(json.dumps) | TEXT, min_size=1, max_size=4).map("\n".join)
    contents = lines.filter(bool).map(str.encode).flatmap(altered_bytes)

    def parse(content: bytes) -> None:
        try:
            found = list(parse_lines(content.splitlines(keepends=True), "it"))
        except SkipError as error:
            assert str(error).startswith("line ") and str(error).isprintable()
        else:
            assert len({type(example) for example in found} - {dict, list}) == 0

    examples(60, contents, parse)
