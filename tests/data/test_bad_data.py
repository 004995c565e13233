"""Every mistake in a data file that a user makes: one line that says where, what, and what may be.

Whole files go through ``load_task``, as a job reads them.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from skip_exp.data.rows import to_split
from skip_exp.data.sources import RawTask, load_task
from skip_exp.errors import DataError

from .conftest import rows, spec

Write = Callable[[Path], Any]
GOOD = rows(20)


def csv(*lines: str, end: str = "\n", head: str = "s,label") -> bytes:
    """A CSV of twenty good rows whose first ones are ``lines``."""
    good = [f"text {i},{i % 2}" for i in range(len(lines), 20)]
    return (end.join([head, *lines, *good]) + end).encode()


def jsonl(*lines: str) -> bytes:
    """The same as JSON lines."""
    return "\n".join([*lines, *(json.dumps(row) for row in GOOD[len(lines) :])]).encode()


def load(path: Path, **changes: Any) -> RawTask:
    files = {"train": str(path), "validation": str(path)}
    return load_task(spec(files=files, **changes), "local", None, allow_sample=False)


STARS = {"labels": ["1", "2", "3"]}
BAD: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "wrong ending": ("t.tsv", b"", {}, "its name must end in .jsonl, .json, .csv, .parquet"),
    "no ending": ("train", b"", {}, "its name must end in .jsonl"),
    "empty": ("t.csv", b"", {}, "split train of FILE has no rows"),
    "empty json": ("t.json", b"[]", {}, "split train of FILE has no rows"),
    "header only": ("t.csv", b"s,label\n", {}, "split train of FILE has no rows"),
    "no header": ("t.csv", b"text,0\n" * 20, {}, "no column 's' in FILE (it has: text, 0)"),
    "no text column": ("t.csv", csv(head="text,label"), {}, "no column 's' in FILE (it has: text,"),
    "no label column": ("t.csv", csv(head="s,gold"), {}, "no column 'label' in FILE (it has: s, g"),
    "another case": ("t.csv", csv(head="s,Label"), {}, "'label' in FILE (it has: s, Label)"),
    "tabs": (
        "t.csv", csv().replace(b",", b"\t"), {}, r"no column 's' in FILE (it has: 's\tlabel')",
    ),
    "semicolons": ("t.csv", csv().replace(b",", b";"), {}, "(it has: s;label)"),
    "a column twice": ("t.csv", csv(head="s,s,label"), {}, "2 columns 's' in FILE (it has: s, s,"),
    "a comma in one text": ("t.csv", csv("a,0", "b, c,1"), {}, "row 2 has another number of fi"),
    "a comma in every text": (
        "t.csv", b"s,label\n" + b"well, good,1\nbad, bad,0\n" * 10, {}, "row 1 has another number",
    ),
    "a field missing": ("t.csv", csv("a,0", "b"), {}, "row 2 has another number of f"),
    "an empty cell": ("t.csv", csv("a,0", ",1"), {}, "row 2 of FILE: column 's' is empty"),
    "an empty label": ("t.csv", csv("a,0", "b,"), {}, "row 2 of FILE: label None in col"),
    "an open quote": ("t.csv", csv('"a,0'), {}, "(is every quote closed?)"),
    "latin-1": ("t.csv", csv("na\u00efve,0").decode().encode("latin-1"), {}, "line 2 is not UTF-8"),
    "utf-16": ("t.jsonl", jsonl().decode().encode("utf-16"), {}, "line 1 is not UTF-8 text"),
    "unknown name": ("t.csv", csv("a,no", "b,maybe"), {}, "label 'maybe' in column 'label' is nei"),
    "out of range": ("t.csv", csv("a,0", "b,2"), {}, "row 2 of FILE: label '2' in column 'label' "),
    "below zero": ("t.jsonl", jsonl('{"s": "a", "label": -1}'), {}, "row 1 of FILE: label -1 in"),
    "between two": ("t.jsonl", jsonl('{"s": "a", "label": 0.5}'), {}, "label 0.5 in column 'la"),
    "NaN": ("t.jsonl", jsonl('{"s": "a", "label": NaN}'), {}, "row 1 of FILE: label nan in column"),
    "null label": ("t.jsonl", jsonl('{"s": "a", "label": null}'), {}, "label None in column"),
    "no label": ("t.jsonl", jsonl(*jsonl().decode().split("\n")[:2], '{"s": "a"}'), {}, "row 3 of"),
    "a list": ("t.jsonl", jsonl('{"s": "a", "label": [1]}'), {}, "label [1] in column 'label' is"),
    "null": ("t.jsonl", jsonl('{"s": null, "label": 0}'), {}, "row 1 of FILE: column 's' is empty"),
    "NaN text": ("t.jsonl", jsonl('{"s": NaN, "label": 0}'), {}, "row 1 of FILE: column 's' is em"),
    "infinite": ("t.jsonl", jsonl('{"s": 1e999, "label": 0}'), {}, "column 's' is inf, not a text"),
    "nested": ("t.jsonl", jsonl('{"s": {"a": 1}, "label": 0}'), {}, "column 's' is {'a': 1}, not"),
    "half a character": (
        "t.jsonl", jsonl('{"s": "a \\ud83d", "label": 0}'), {},
        r"row 1 of FILE: column 's' is no valid Unicode: half a character, '\ud83d', stands alone",
    ),
    "cut short": ("t.jsonl", jsonl()[:-5], {}, "line 20 is not JSON: "),
    "a list as a line": ("t.jsonl", jsonl('["a", 0]'), {}, "line 1 is ['a', 0], not a JSON object"),
    "numbers in an array": ("t.json", b"[1, 2]", {}, "element 1 is 1, not a JSON object"),
    "a table by columns": ("t.json", b'{"s": {"0": "a"}}', {}, "no column 'label' in FILE (it has"),
    "nested deeply": ("t.jsonl", b"[" * 100_000, {}, "line 1 is nested too deeply"),
    "a huge number": ("t.jsonl", jsonl('{"label": ' + "9" * 9999 + "}"), {}, "cannot read FILE: E"),
    "no parquet": ("t.parquet", csv(), {}, "cannot read FILE: Parquet magic bytes not found"),
    "too few rows": ("t.csv", csv()[:-10], {}, "19 train rows in FILE, at least 20 are needed"),
    "one class": (
        "t.csv", b"s,label\n" + b"a,yes\n" * 20, {},
        "all 20 train rows of FILE have the label 'yes'; rows of two labels or more are needed",
    ),
    "stars as indices": (
        "t.csv", csv("a,0", "b,2"), STARS, "label '0' in column 'label' is none of 1, 2, 3, whose",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, mistake: str) -> None:
    name, content, changes, says = BAD[mistake]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        load(path, **changes)
    message = str(refused.value)
    assert says in message.replace(str(path), "FILE")
    assert str(path) in message
    assert "\n" not in message and len(message) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda path: None, "cannot read FILE: no such file"),
        (lambda path: path.mkdir(), "cannot read FILE: it is a folder, not a file"),
        (lambda path: path.symlink_to(path.parent / "gone"), "cannot read FILE: no such file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, made: Write, says: str) -> None:
    path = tmp_path / "t.csv"
    made(path)
    with pytest.raises(DataError) as refused:
        load(path)
    assert str(refused.value).replace(str(path), "FILE") == says


def test_a_folder_in_place_of_a_split_is_named(tmp_path: Path) -> None:
    (tmp_path / "toy" / "train.jsonl").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train\.jsonl: it is a folder, not a file"):
        load_task(spec(), "local", str(tmp_path), allow_sample=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", b"\xef\xbb\xbf" + csv()),
        ("crlf.csv", csv(end="\r\n")),
        ("cr.csv", csv(end="\r")),
        ("blank_lines.csv", csv().replace(b"\n", b"\n\n")),
        ("spaces.csv", csv("text 0, 0")),
        ("floats.csv", csv("text 0,0.0", "text 1,1.0")),
        ("names.csv", csv("text 0,no", "text 1,yes")),
        ("quotes.csv", csv('"text 0","0"')),
        ("more_columns.csv", csv(head="s,label").replace(b"\n", b",\n")),
        ("bom.jsonl", b"\xef\xbb\xbf" + jsonl()),
        ("crlf.jsonl", jsonl().replace(b"\n", b"\r\n")),
        ("blank_lines.jsonl", jsonl().replace(b"\n", b"\n\n")),
        ("mixed.jsonl", jsonl(
            '{"s": "text 0", "label": "no", "x": 1}', '{"label": 1, "s": "text 1"}'
        )),
        ("floats.jsonl", jsonl('{"s": "text 0", "label": 0.0}')),
        ("spaced.json", b" \n" + json.dumps(GOOD, indent=1).encode()),
    ],
)  # fmt: skip
def test_what_only_looks_odd_reads_the_same(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    split = load(path).splits["train"]
    assert split.text_a == [row["s"] for row in GOOD]
    assert split.label == [row["label"] for row in GOOD]


def test_a_document_is_a_text_too(tmp_path: Path) -> None:
    long = "word " * 50_000
    (tmp_path / "t.csv").write_bytes(csv(f"{long},0"))
    assert load(tmp_path / "t.csv").splits["train"].text_a[0] == long


def in_every_format(folder: Path, texts: list[Any], labels: list[Any]) -> list[Path]:
    table = pd.DataFrame({"s": texts, "label": labels})
    paths = [folder / f"t{ending}" for ending in (".jsonl", ".json", ".csv", ".parquet")]
    table.to_json(paths[0], orient="records", lines=True)
    table.to_json(paths[1], orient="records")
    table.to_csv(paths[2], index=False)
    table.to_parquet(paths[3])
    return paths


@pytest.mark.parametrize(
    ("names", "given", "read"),
    [
        (["1", "0"], [1, 0], [0, 1]),  # by name, though both are indices, too
        (["1", "0"], ["1", "0"], [0, 1]),
        (["1", "2", "3"], [1, 2, 3, 3], [0, 1, 2, 2]),
        (["1", "2", "3"], [1.0, 2.0], [0, 1]),
        (["0", "1"], [1, 0], [1, 0]),
        (["10", "20"], [1, 0], [1, 0]),  # no name is an index: nothing is ambiguous
        (["10", "20"], [10, 20], [0, 1]),
        (["True", "False"], [True, False], [0, 1]),
        (["no", "yes"], [True, False], [1, 0]),
    ],
)
def test_labels_mean_the_same_in_every_format(
    tmp_path: Path, names: list[str], given: list[Any], read: list[int]
) -> None:
    times = 20
    for path in in_every_format(tmp_path, ["x"] * len(given) * times, given * times):
        assert load(path, labels=names).splits["train"].label == read * times, path.suffix


def test_a_name_that_is_another_labels_index_makes_indices_ambiguous(tmp_path: Path) -> None:
    for path in in_every_format(tmp_path, ["x"] * 30, [0, 1, 2] * 10):
        with pytest.raises(DataError, match=r"row 1 of .*: label '?0'? in column 'label' is none"):
            load(path, labels=["1", "2", "3"])


def test_an_empty_text_is_one_where_the_format_can_say_so(tmp_path: Path) -> None:
    texts = ["", "x"] * 10
    *explicit, table = sorted(
        in_every_format(tmp_path, texts, [0, 1] * 10), key=lambda path: path.suffix == ".csv"
    )
    for path in explicit:
        assert load(path).splits["train"].text_a == texts
    with pytest.raises(DataError, match=r"row 1 of .*csv: column 's' is empty"):
        load(table)


def test_a_label_that_never_occurs_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "t.csv").write_bytes(csv())
    with caplog.at_level(logging.WARNING):
        load(tmp_path / "t.csv", labels=["no", "yes", "maybe", "never"])
    assert caplog.messages == [
        f"data: no train row of {tmp_path / 't.csv'} has the label maybe or never"
    ]


def test_a_table_of_the_hub_is_checked_alike() -> None:
    table = pd.DataFrame([["a", "b", 0]], columns=["s", "s", "label"])
    with pytest.raises(DataError, match=r"2 columns 's' in the hub \(it has: s, s, label\)"):
        to_split(table, spec(), "train", "the hub")
    with pytest.raises(DataError, match=r"column 's' is b'a', not a text"):
        to_split(pd.DataFrame({"s": [b"a"], "label": [0]}), spec(), "train", "the hub")


def test_many_columns_are_not_all_listed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",".join(f"c{i}" for i in range(500)) + "\n")
    with pytest.raises(DataError, match=r"c18, c19, and 480 more\)$"):
        load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("x" * 5000 + "\n")
    with pytest.raises(DataError, match=r"\(it has: 'x{79}\.\.\.\)$"):
        load(tmp_path / "t.csv")
