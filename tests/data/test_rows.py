import math
from pathlib import Path

import pandas as pd
import pytest

from skip_exp.data.read import read_table
from skip_exp.data.rows import get_labels, hash_rows
from skip_exp.errors import ConfigError, DataError

from .conftest import build, spec, table

pytestmark = pytest.mark.core

WANTED = ("s", "label")
PAIR = spec(text=["s", "{w}: {t}"])


def test_texts_are_filled_and_labels_indexed() -> None:
    given = table(s=["x", "y"], w=[1, 2], t=["p", "q"], label=[1, 0], idx=[7, 8])
    assert build(given, PAIR) == [
        {"texts": ["x", "1: p"], "label": 1},
        {"texts": ["y", "2: q"], "label": 0},
    ]


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        *((["no", "yes"], given, [0, 1]) for given in ([0, 1], ["0", "1"], [0.0, 1.0], ["no", 1])),
        (["true", "false"], [True, False], [0, 1]),  # not by index: True == 1 is "false"
        (["true", "false"], ["True", "FALSE"], [0, 1]),
        (["False", "True"], [True, False], [1, 0]),
        (["Good", "Bad"], ["good", "BAD"], [0, 1]),
        (["a", "A", "b"], ["a", "A", "B"], [0, 1, 2]),
        (["1", "0"], [1, "0"], [0, 1]),  # by name, though both are indices, too
        (["1", "2", "3"], [1, 2.0, "3"], [0, 1, 2]),
        (["0", "1"], ["1.0", 0.0], [1, 0]),
        (["10", "20"], [10, "20"], [0, 1]),
        (["bad", "good"], [" Good", "BAD "], [1, 0]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], [1, 2], [1, 2]),
        (["covid19", "flu", "cold"], [1, 2], [1, 2]),  # these names do not count
    ],
)
def test_a_label_is_a_name_in_any_case_or_an_index(
    names: list[str], given: list[object], expected: list[int]
) -> None:
    rows = table(s=["x"] * len(given), label=given)
    assert get_labels(build(rows, spec(labels=names))) == expected


@pytest.mark.parametrize(
    ("names", "given"),
    [
        *((["no", "yes"], bad) for bad in (2, -1, "maybe", "2", "", None, math.nan, 0.5, True)),
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
        (["1 star", "2 stars", "3 stars"], 1),  # the names count otherwise
    ],
)
def test_other_labels_are_refused_with_row_and_value(names: list[str], given: object) -> None:
    with pytest.raises(DataError) as refused:
        build(table(s=["x", "y"], label=[names[0], given]), spec(labels=names))
    is_empty = given in ("", None) or given != given
    label = "empty label" if is_empty else f"label {given!r}"
    assert f"here: 1 bad row: row 2: {label} in column 'label'" in str(refused.value)


def test_every_format_reads_the_same_texts_unchanged(tmp_path: Path) -> None:
    texts = ["NA", "007", 'say "hi",\nthen go', "2020-01-02", "naïve"]
    frame = pd.DataFrame({"s": texts, "label": [0, 1, 0, 1, 0]})
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "array.json", orient="records")
    frame.to_json(tmp_path / "lines.json", orient="records", lines=True)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "array.json", "lines.json", "t.csv", "t.parquet"):
        rows = build(read_table(tmp_path / name, WANTED), spec())
        assert rows == [{"texts": [t], "label": i % 2} for i, t in enumerate(texts)], name


def test_the_fingerprint_follows_the_content() -> None:
    def of(split: str, *texts: list[str], group: str | None = None) -> str:
        rows = [{"texts": each, "label": i} for i, each in enumerate(texts)]
        return hash_rows(
            {split: [row if group is None else row | {"group": group} for row in rows]}
        )

    found = [
        of("train", ["x"], ["y"]),
        of("test", ["x"], ["y"]),
        of("train", ["x"], ["z"]),
        of("train", ["y"], ["x"]),
        of("train", ["x", "x"], ["y", "y"]),
        of("train", ["x"], ["y"], group="g"),
    ]
    assert len({*found}) == 6 and found[0] == of("train", ["x"], ["y"])
    assert found[0] == "660e0c5f114f2158"  # that old results and skills name


def test_a_label_that_is_a_text_is_refused() -> None:
    for text in ("label", "{s}: {label}"):
        with pytest.raises(ConfigError, match=r"^task\.label=label: "):
            build(table(s=["a", "b"], label=["yes", "no"]), spec(text=[text]))
