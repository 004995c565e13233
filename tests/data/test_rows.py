import math
from pathlib import Path

import pandas as pd
import pytest

from skip_exp.data.rows import Split, fingerprint, to_split
from skip_exp.data.tables import read_table
from skip_exp.errors import DataError

from .conftest import spec

pytestmark = pytest.mark.core

WANTED = ("s", "label")
PAIR = spec(text=["s", "{w}: {t}"])


def test_texts_are_filled_and_labels_indexed() -> None:
    table = pd.DataFrame(
        {"s": ["x", "y"], "w": [1, 2], "t": ["p", "q"], "label": [1, 0], "idx": [7, 8]}
    )
    split = to_split(table, PAIR, "train", "here")
    assert split == Split(["x", "y"], ["1: p", "2: q"], [1, 0])
    assert len(split) == 2


@pytest.mark.parametrize(
    "given", [[0, 1], ["no", "yes"], ["0", "1"], [False, True], [0.0, 1.0], ["no", 1]]
)
def test_a_label_is_an_index_or_a_name(given: list[object]) -> None:
    table = pd.DataFrame({"s": ["x", "y"], "label": pd.Series(given, dtype=object)})
    assert to_split(table, spec(), "train", "here").label == [0, 1]


@pytest.mark.parametrize("bad", [2, -1, "maybe", "2", "", None, math.nan, 0.5])
def test_other_labels_are_refused_with_row_and_value(bad: object) -> None:
    table = pd.DataFrame({"s": ["x", "y"], "label": pd.Series([0, bad], dtype=object)})
    with pytest.raises(
        DataError, match=r"^row 2 of here: label .* neither 0 to 1 nor one of no, yes"
    ):
        to_split(table, spec(), "train", "here")
    with pytest.raises(DataError) as refused:
        to_split(table, spec(), "train", "here")
    assert repr(bad) in str(refused.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            pd.DataFrame({"text": ["x"], "label": [0]}),
            "no column 's' in here (it has: text, label)",
        ),
        (pd.DataFrame({"s": ["x"], "gold": [0]}), "no column 'label' in here (it has: s, gold)"),
        (pd.DataFrame({"s": [], "label": []}), "split train of here has no rows"),
        (
            pd.DataFrame({"s": ["x", None], "label": [0, 1]}),
            "row 2 of here: column 's' is empty (null), not a text",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(table: pd.DataFrame, says: str) -> None:
    with pytest.raises(DataError) as refused:
        to_split(table, spec(), "train", "here")
    assert says in str(refused.value)


def test_every_format_reads_the_same_texts_unchanged(tmp_path: Path) -> None:
    texts = ["NA", "007", 'say "hi",\nthen go', "2020-01-02", "naïve"]
    table = pd.DataFrame({"s": texts, "label": [0, 1, 0, 1, 0]})
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    table.to_json(tmp_path / "array.json", orient="records")
    table.to_json(tmp_path / "lines.json", orient="records", lines=True)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "array.json", "lines.json", "t.csv", "t.parquet"):
        split = to_split(read_table(tmp_path / name, WANTED), spec(), "train", name)
        assert split == Split(texts, None, [0, 1, 0, 1, 0]), name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.jsonl", b'{"s": "x", "label": 0}\n{"s": '),
        ("t.json", b"[1, {"),
        ("t.csv", b's,label\n"x,0\n'),
        ("t.csv", b"s,label\n\xff\xfe,0\n"),
        ("t.parquet", b"PAR0"),
        ("t.tsv", b"s\tlabel\n"),
    ],
)
def test_unreadable_files_are_refused_on_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_table(tmp_path / name, WANTED)
    assert str(refused.value).startswith(f"cannot read {tmp_path / name}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["none.jsonl", "none.json", "none.csv", "none.parquet"])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / name, WANTED)


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.csv"])
def test_an_empty_file_is_an_empty_split(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="split train of here has no rows"):
        to_split(read_table(tmp_path / name, WANTED), spec(), "train", "here")


@pytest.mark.parametrize("content", [b"[1, 2]", b"3", b'"x"', b'{"s": {"a": 1}}'])
def test_json_that_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(DataError):
        to_split(read_table(tmp_path / "t.json", WANTED), spec(), "train", "here")


def test_the_fingerprint_follows_the_content() -> None:
    split = Split(["x", "y"], None, [0, 1])
    same = fingerprint({"train": Split(["x", "y"], None, [0, 1])})
    assert fingerprint({"train": split}) == same
    others = [
        {"test": split},
        {"train": Split(["x", "z"], None, [0, 1])},
        {"train": Split(["x", "y"], None, [1, 0])},
        {"train": Split(["x", "y"], ["x", "y"], [0, 1])},
        {"train": Split(["y", "x"], None, [0, 1])},
    ]
    assert len({same, *map(fingerprint, others)}) == 6
