"""Data files with anything in them: rows that are valid, or one line; never another error.

Hypothesis makes good files and damages them. A failure shows the file, ``SEED`` and the blob that
repeats it (``@reproduce_failure``).
"""

import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from skip_exp.commands.predict import parse_lines
from skip_exp.data.rows import Split, to_split
from skip_exp.data.tables import read_table
from skip_exp.errors import DataError, SkipError
from tests.helpers.hostile import altered_bytes

from .conftest import spec

SEED = int(os.environ.get("SKIP_EXP_HOSTILE_SEED", 1))  # another one looks elsewhere
TIMES = int(os.environ.get("SKIP_EXP_HOSTILE_TIMES", 1))  # as many examples
TASKS = (spec(), spec(text=["{s} {t}"], labels=["1", "2", "3"]), spec(text=["s", "t"]))
ENDINGS = (".csv", ".json", ".jsonl", ".parquet")
MEMORY = 64 * 2**20  # bytes; the files have a few hundred

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


def written(ending: str, rows: list[dict[str, Any]], folder: Path) -> bytes:
    """Good rows in a format, as its library writes them."""
    path = folder / "good"
    table = pd.DataFrame(rows, columns=["s", "t", "label"], dtype=object)
    if ending == ".csv":
        table.to_csv(path, index=False, errors="replace")
    elif ending == ".parquet":
        table.astype(str).to_parquet(path)
    elif ending == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.read_bytes()


def check(ending: str, content: bytes) -> None:
    """Every task reads the file to valid rows or refuses it in one line, in little memory."""
    note(f"SEED {SEED}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{ending}"
        path.write_bytes(content)
        for task in TASKS:
            tracemalloc.start()
            try:
                columns = ("s", "t", task.label)
                split = to_split(read_table(path, columns), task, "train", str(path))
            except DataError as error:
                message = str(error)
                assert str(path) in message
                assert message.isprintable() and len(message) < 1000
            else:
                assert valid(split, task.num_labels)
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < MEMORY
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


def valid(split: Split, labels: int) -> bool:
    texts = [split.text_a, *([split.text_b] if split.text_b is not None else [])]
    for text in (text for column in texts for text in column):
        text.encode()  # half a surrogate pair cannot be
    return all(len(column) == len(split) > 0 for column in texts) and all(
        type(label) is int and 0 <= label < labels for label in split.label
    )


def many(examples: int) -> Callable[[Any], Any]:
    how = settings(
        max_examples=examples * TIMES,
        deadline=None,
        print_blob=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return lambda test: seed(SEED)(how(test))


@pytest.mark.parametrize("ending", ENDINGS)
@many(60)
@given(data=st.data(), rows=st.lists(ROW, min_size=1, max_size=4))
def test_a_damaged_file(ending: str, data: st.DataObject, rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good = written(ending, rows, Path(folder))
    check(ending, data.draw(altered_bytes(good)))


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
@many(60)
@given(rows=st.lists(ODD_ROW | ODD, max_size=4))
def test_json_of_any_shape(ending: str, rows: list[Any]) -> None:
    lines = [json.dumps(row) for row in rows]
    text = f"[{','.join(lines)}]" if ending == ".json" else "\n".join(lines)
    check(ending, text.encode())


@many(60)
@given(fields=st.lists(st.lists(TEXT, max_size=4), max_size=4), head=st.booleans())
def test_csv_of_any_shape(fields: list[list[str]], head: bool) -> None:
    lines = [",".join(line) for line in [["s", "t", "label"]] * head + fields]
    check(".csv", "\n".join(lines).encode())


@many(40)
@given(
    kinds=st.lists(
        st.sampled_from(["i", "f", "b", "text", "bytes", "list", "time"]), min_size=3, max_size=3
    ),
    missing=st.booleans(),
)
def test_parquet_of_any_types(kinds: list[str], missing: bool) -> None:
    cells: dict[str, list[Any]] = {
        "i": [0, 1], "f": [0.0, 1.0], "b": [False, True], "text": ["0", "1"], "bytes": [b"0", b"1"],
        "list": [[0], [1]], "time": [pd.Timestamp(0), pd.Timestamp(1)],
    }  # fmt: skip
    table = {
        name: [*cells[kind], *([None] if missing else [])]
        for name, kind in zip(("s", "t", "label"), kinds, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        pd.DataFrame(table).to_parquet(Path(folder) / "t")
        content = (Path(folder) / "t").read_bytes()
    check(".parquet", content)


@many(60)
@given(data=st.data(), rows=st.lists(ROW | TEXT, max_size=4))
def test_lines_to_be_answered(data: st.DataObject, rows: list[Any]) -> None:
    good = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    content = data.draw(altered_bytes(good.encode())) if good else b""
    try:
        examples = list(parse_lines(content.splitlines(keepends=True), "it"))
    except SkipError as error:
        assert str(error).startswith("line ") and str(error).isprintable()
    else:
        assert len({type(example) for example in examples} - {dict, list}) == 0
