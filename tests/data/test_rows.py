import math
from pathlib import Path

import pandas as pd
import pytest

from skip_exp.data.rows import Split, fingerprint, to_split
from skip_exp.data.tables import read_table
from skip_exp.errors import ConfigError, DataError

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
    ("names", "given", "expected"),
    [
        *((["no", "yes"], given, [0, 1]) for given in ([0, 1], ["0", "1"], [0.0, 1.0], ["no", 1])),
        (["no", "yes"], [False, True], [0, 1]),
        (["true", "false"], [True, False], [0, 1]),  # not by index: True == 1 is "false"
        (["true", "false"], ["True", "FALSE"], [0, 1]),
        (["yes", "no"], [True, False], [0, 1]),
        (["False", "True"], [True, False], [1, 0]),
        (["0", "1"], [True, False], [1, 0]),
        (["Good", "Bad"], ["good", "BAD"], [0, 1]),
        (["a", "A", "b"], ["a", "A", "B"], [0, 1, 2]),
        (["1", "0"], [1, "0"], [0, 1]),  # by name, though both are indices, too
        (["1", "2", "3"], [1, 2.0, "3"], [0, 1, 2]),
        (["0", "1"], ["1.0", 0.0], [1, 0]),
        (["10", "20"], [10, "20"], [0, 1]),
        (["bad", "good"], [" Good", "BAD "], [1, 0]),
    ],
)
def test_a_label_is_a_name_in_any_case_a_boolean_by_meaning_or_an_index(
    names: list[str], given: list[object], expected: list[int]
) -> None:
    table = pd.DataFrame({"s": ["x"] * len(given), "label": pd.Series(given, dtype=object)})
    assert to_split(table, spec(labels=names), "train", "here").label == expected


@pytest.mark.parametrize(
    ("names", "given"),
    [
        *((["no", "yes"], bad) for bad in (2, -1, "maybe", "2", "", None, math.nan, 0.5)),
        (["hate", "none"], None),
        (["hate", "None"], math.nan),
        (["good", "bad"], True),  # index 1 is "bad"
        (["yes", "YES"], "Yes"),
        (["1", "2"], 0),
        (["1", "2"], True),
        (["10", "20"], 1),  # a number that is no name: a label that train lacks, not an index
        (["0", "1", "3"], 2),
        (["-1", "0", "1"], 2),
        (["0", "1", "other"], 2),
        (["0", "1", "0.5"], "2"),
    ],
)
def test_other_labels_are_refused_with_row_and_value(names: list[str], given: object) -> None:
    table = pd.DataFrame({"s": ["x", "y"], "label": pd.Series([names[0], given], dtype=object)})
    with pytest.raises(DataError) as refused:
        to_split(table, spec(labels=names), "train", "here")
    shown = None if given != given else given  # NaN is an empty cell
    assert f"here: 1 bad row: row 2: label {shown!r} in column 'label'" in str(refused.value)


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


def test_a_label_that_is_a_text_is_refused() -> None:
    table = pd.DataFrame({"s": ["a", "b"], "label": ["yes", "no"]})
    for text in ("label", "{s}: {label}"):
        with pytest.raises(ConfigError, match=r"^task\.label=label: "):
            to_split(table, spec(text=[text]), "train", "here")


@pytest.mark.parametrize(
    ("names", "is_index"),
    [
        (["1 star", "2 stars", "3 stars"], False),
        (["LABEL_0", "LABEL_1", "LABEL_2"], True),
        (["covid19", "flu", "cold"], True),  # they do not count
    ],
)
def test_an_index_is_refused_where_the_names_count_otherwise(
    names: list[str], is_index: bool
) -> None:
    table = pd.DataFrame({"s": ["x", "y"], "label": [1, 2]})
    if is_index:
        assert to_split(table, spec(labels=names), "train", "here").label == [1, 2]
        return
    with pytest.raises(DataError) as refused:
        to_split(table, spec(labels=names), "train", "here")
    assert "drop_bad" not in str(refused.value)
