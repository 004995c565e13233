"""Rows that are set apart: for validation, for selection, and those that are left out."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from skip_exp.data.rows import Row, Rows, draw_rows, get_texts
from skip_exp.data.splits import choose_slice, draw_stratified, join_rows
from skip_exp.errors import DataError

from .conftest import load as load_task
from .conftest import rows, spec


def file(path: Path, content: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


def load(files: dict[str, str], task: dict[str, Any] | None = None, **options: Any) -> Rows:
    return load_task(spec(files=files, **(task or {})), **options)


def test_a_fifth_of_every_label_is_set_apart_by_the_seed() -> None:
    labels = [0] * 50 + [1] * 20 + [2] * 2
    held = draw_stratified(labels, range(72), seed=1)
    assert Counter(labels[i] for i in held) == {0: 10, 1: 4}  # a rare label stays in train
    assert held == sorted(set(held)) == draw_stratified(labels, range(72), seed=1)
    assert held != draw_stratified(labels, range(72), seed=2)


def test_the_rows_of_a_group_stay_together() -> None:
    groups = [str(i // 3) for i in range(90)]
    labels = [i // 3 % 2 for i in range(90)]
    held = set(draw_stratified(labels, groups, seed=1))
    assert 15 <= len(held) <= 21
    assert not {groups[i] for i in held} & {groups[i] for i in range(90) if i not in held}
    every_tenth = [*range(27, 30), *range(57, 60), *range(87, 90)]
    assert choose_slice([0] * 90, groups, is_grouped=True) == every_tenth
    assert choose_slice([0] * 25, range(25)) == [9, 19]
    assert choose_slice([0] * 18, groups[:18], is_grouped=True) == [
        15,
        16,
        17,
    ]  # of six groups the last
    assert choose_slice([0] * 3, groups[:3]) == []


@pytest.mark.parametrize(
    ("classes", "of_each"), [(2, 200), (5, 80), (10, 40), (150, 5), (150, 9), (100, 3), (10, 2)]
)
def test_labels_that_take_turns_are_all_in_train_and_frequent_ones_in_the_slice(
    classes: int, of_each: int
) -> None:
    labels = [row % classes for row in range(classes * of_each)]
    held = choose_slice(labels, range(len(labels)))
    counts = Counter(labels[row] for row in held)
    assert len(held) == len(labels) // 10
    assert len({label for row, label in enumerate(labels) if row not in held}) == classes
    if of_each >= 40:
        assert len(counts) == classes and {*counts.values()} == {of_each // 10}
    assert held == choose_slice(labels, range(len(labels)))


def test_a_rare_label_is_never_in_the_slice_alone() -> None:
    labels = [0] * 40
    labels[9] = labels[28] = labels[29] = 1
    assert choose_slice(labels, range(len(labels))) == [9, 19, 29, 39]  # one is left
    labels[28] = 0
    assert choose_slice(labels, range(len(labels))) == [19, 39]
    assert choose_slice(range(24), range(24)) == [9, 19]  # never empty


def test_a_group_is_taken_where_it_fits() -> None:
    labels = [row % 2 for row in range(1000)]
    equal = [row // 200 for row in range(1000)]
    uneven = [max(0, row - 899) for row in range(1000)]  # 900 rows, and a hundred groups of one
    for seed in range(3):
        assert len(draw_stratified(labels, equal, seed)) == 200
        assert len(draw_stratified(labels, uneven, seed)) == 100
    big = [min(row // 10, 2) for row in range(1000)]  # 10, 10 and 980 rows
    assert len(choose_slice(labels, big)) == 20
    halves = [row // 500 for row in range(1000)]
    assert len(draw_stratified(labels, halves, 1)) == len(choose_slice(labels, halves)) == 500


def test_groups_of_one_label_each_leave_every_label_on_both_sides() -> None:
    labels = [row // 20 % 2 for row in range(300)]
    groups = [row // 20 for row in range(300)]
    for held in (draw_stratified(labels, groups, 1), choose_slice(labels, groups, is_grouped=True)):
        assert {labels[row] for row in held} == {0, 1}
    rare = [2 if 90 <= row < 99 else row % 2 for row in range(1000)]
    tens = [row // 10 for row in range(1000)]
    left = {*range(1000)} - {*choose_slice(rare, tens, is_grouped=True)}
    assert {rare[row] for row in left} == {0, 1, 2}  # the tenth group has all of it
    alone = [row // 100 for row in range(400)]  # a group a label
    assert draw_stratified(alone, alone, 1) == choose_slice(alone, alone) == []


def test_equal_texts_stand_on_one_side(tmp_path: Path) -> None:
    """Every third row repeats an earlier text; the slice and the made split hold whole texts."""
    each = rows(300)
    for i in range(2, 300, 3):
        each[i] = {"s": each[i // 2]["s"], "label": i % 2, "of": i}
    path = file(tmp_path / "t.jsonl", [{"of": i // 2} | row for i, row in enumerate(each)])
    for task in ({}, {"group": "of"}):
        found = load({"train": path}, task)
        parts = found.train, found.select, found.validation
        assert sum(map(len, parts)) == 300
        assert 10 <= len(found.select) <= 48 and 40 <= len(found.validation) <= 80
        texts = [{*get_texts(part)} for part in parts]
        assert not texts[0] & texts[1] and not (texts[0] | texts[1]) & texts[2]


def test_the_slice_is_every_tenth_row_with_all_rows_of_its_text() -> None:
    texts = [min(i, 20) for i in range(25)]
    assert choose_slice([0] * 25, texts) == [9, 19]
    texts[15] = texts[9]  # a repeated text moves no other
    assert choose_slice([0] * 25, texts) == [9, 15, 19]
    texts[0] = texts[19]  # where its first row is
    assert choose_slice([0] * 25, texts) == [9, 15]
    assert choose_slice([0] * 25, [i % 4 for i in range(25)]) == [
        *range(3, 25, 4)
    ]  # of four the last
    assert choose_slice([0] * 25, [0] * 25) == []
    most = [9 if i > 20 else i for i in range(100)]  # 80 rows have the tenth text
    assert 0 < len(choose_slice([i % 2 for i in range(100)], most)) < 20


def test_groups_that_share_a_text_are_one_unit() -> None:
    assert join_rows("abcd", None) == "abcd"
    for texts, groups, first in (("abac", "xyzz", [0, 1, 0, 0]), ("abcd", "xyxz", [0, 1, 0, 3])):
        units = join_rows(texts, groups)
        assert [units.index(unit) for unit in units] == first
    assert join_rows([], []) == []


def test_groups_that_are_labels_are_refused(tmp_path: Path) -> None:
    each = [{"s": f"a {i}", "label": i % 2, "of": i % 2} for i in range(60)]
    files = {"train": file(tmp_path / "t.jsonl", each)}
    with pytest.raises(DataError, match=r"task\.files\.validation"):
        load(files, {"group": "of"})
    files["validation"] = file(tmp_path / "v.jsonl", rows(5))
    with pytest.raises(DataError, match=r"task\.files\.select"):
        load(files, {"group": "of"})


def test_one_file_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = file(tmp_path / "t.jsonl", rows(100))
    raw = load({"train": path}, seed=3)
    assert [len(raw.train), len(raw.select), len(raw.validation)] == [72, 8, 20]
    texts = get_texts([*raw.train, *raw.select, *raw.validation])
    assert sorted(texts) == sorted((row["s"],) for row in rows(100))
    assert ("validation", 20, 100, 3) in [record.args for record in caplog.records]
    other = load({"train": path}, seed=4)
    assert other.fingerprint != raw.fingerprint and other.read == raw.read


def test_a_select_file_replaces_every_tenth_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"train": rows(40), "select": rows(6), "validation": rows(60)[50:]}
    files = {name: file(tmp_path / f"{name}.jsonl", each) for name, each in names.items()}
    found = load(files)
    assert (len(found.train), len(found.select), len(found.validation)) == (40, 6, 10)
    assert (6, 6, "select", "train") in [record.args for record in caplog.records]
    caplog.clear()
    assert len(load(files, deduplicate=True).train) == 34
    assert not caplog.records
    files.pop("select")
    found = load(files)
    assert (len(found.train), len(found.select)) == (36, 4)


def texts_of(found: Rows) -> list[set[tuple[str, ...]]]:
    return [{*get_texts(part)} for part in (found.train, found.select, found.validation)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("task", [{}, {"group": "of"}])
def test_a_validation_split_that_is_set_apart_has_no_text_of_select(
    tmp_path: Path, task: dict[str, Any], seed: int
) -> None:
    """Every third text of train is also in select."""
    many = [row | {"of": i // 2} for i, row in enumerate(rows(90))]
    files = {
        "train": file(tmp_path / "t.jsonl", many),
        "select": file(tmp_path / "s.jsonl", many[::3]),
    }
    found = load(files, task, seed=seed)
    train, select, validation = texts_of(found)
    assert not validation & select and not validation & train
    assert 12 <= len(found.validation) <= 18 and found.duplicates == 0
    assert len(train & select) == 30  # the user's own files have them in both
    clean = load(files, task, seed=seed, deduplicate=True)
    assert texts_of(clean) == [train - select, select, validation]
    if task:
        assert not groups_in(found.train) & groups_in(found.validation)


def test_every_two_splits_are_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {
        "train": rows(60),
        "select": rows(90)[50:80],  # 10 are in train
        "validation": rows(90)[56:90],  # 4 are in train and in select, 20 more in select
        "more": rows(90)[:5],
    }
    files = {name: file(tmp_path / f"{name}.jsonl", part) for name, part in content.items()}
    found = load(files, {"extra": ["more"]})
    told = [record.args for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        (10, 30, "select", "train"),
        (4, 34, "validation", "train"),
        (5, 5, "more", "train"),
        (24, 34, "validation", "select"),
    ]
    assert (found.duplicates, found.dropped) == (24, 0)
    caplog.clear()
    found = load(files, {"extra": ["more"]}, deduplicate=True)
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
    train, select, validation = texts_of(found)
    assert not train & select and not (train | select) & validation
    assert [len(train), len(select), len(validation)] == [45, 6, 34]
    assert (found.duplicates, found.dropped) == (0, 39)


def test_a_select_file_that_is_the_validation_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file(tmp_path / "v.jsonl", rows(80)[60:])
    files = {"train": file(tmp_path / "t.jsonl", rows(60)), "select": path, "validation": path}
    assert load(files).duplicates == 20
    assert (20, 20, "validation", "select") in [each.args for each in caplog.records]
    with pytest.raises(DataError, match=r"task\.files\.select"):
        load(files, deduplicate=True)


def groups_in(part: list[dict[str, Any]]) -> set[str]:
    return {row["group"] for row in part}


def test_groups_stand_on_one_side(tmp_path: Path) -> None:
    many = [{"s": f"{'abcde'[i // 4 % 5]} {i}", "label": i % 2, "of": i // 4} for i in range(200)]
    path = file(tmp_path / "t.jsonl", many)
    found = load({"train": path}, {"group": "of"})
    train, select, validation = map(groups_in, (found.train, found.select, found.validation))
    assert not train & select and not (train | select) & validation
    assert len(found.select) % 4 == 0
    assert found.fingerprint != load({"train": path}).fingerprint
    plain = file(tmp_path / "v.jsonl", rows(9))
    found = load({"train": path, "validation": plain}, {"group": "of"})
    assert "group" in found.train[0] and "group" not in found.validation[0]


def test_all_bad_rows_are_named_at_once_or_dropped(tmp_path: Path) -> None:
    good = [f"text {i},{i % 2}" for i in range(40)]
    lines = ["s,label", '"two', 'lines",0', ",1", "x,maybe", "a,", *good]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    files = {"train": str(path), "validation": file(tmp_path / "v.jsonl", rows(5))}
    places = "3 bad rows: row 2: column 's'.*row 3: label 'maybe'.*row 4: empty label"
    with pytest.raises(DataError, match=places):
        load(files)
    path.write_text("\n".join([*lines, ",1", ",0", ",1", ",1", ",1", "y,maybe"]) + "\n")
    with pytest.raises(DataError, match=r"row 2, 45, 46, 47, 48, and 1 more: .*row 3, 50: label"):
        load(files)
    path.write_text("\n".join(lines) + "\n")
    raw = load(files, drop_bad=True)
    assert (len(raw.train) + len(raw.select), raw.dropped) == (41, 3)
    assert raw.train[0]["texts"] == ["two\nlines"]
    path.write_text("s,label\n" + ",1\n" * 30)
    with pytest.raises(DataError, match="no good rows"):
        load(files, drop_bad=True)


def test_train_rows_that_are_validation_rows_are_counted_and_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = file(tmp_path / "t.jsonl", [*rows(60), *rows(3)])
    files = {"train": train, "validation": file(tmp_path / "v.jsonl", rows(5))}
    found = load(files)
    assert (found.dropped, found.duplicates) == (0, 5)
    assert (5, 5, "validation", "train") in [record.args for record in caplog.records]
    found = load(files, deduplicate=True)
    assert (len(found.train) + len(found.select), found.dropped, found.duplicates) == (55, 8, 0)
    more = {
        name: file(tmp_path / f"{name}.jsonl", rows(60)[start : start + 10])
        for start, name in ((10, "select"), (30, "more"))
    }
    found = load(files | more, {"extra": ["more"]}, deduplicate=True)
    assert (len(found.train), found.dropped) == (35, 28)
    assert found.majority == pytest.approx({"accuracy": 0.6})


# --- data.train_rows ----------------------------------------------------------------------------


def numbered(count: int) -> list[Row]:
    """Rows whose texts are their numbers, two of a label after each other."""
    return [Row(texts=[str(number)], label=number // 2 % 2) for number in range(count)]


def test_the_rows_drawn_are_the_same_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Written down, so that every process, machine and library version is held to them."""
    caplog.set_level(logging.INFO)
    task = numbered(36)

    def indices(count: int, seed: int) -> list[int]:
        return [int(text) for (text,) in get_texts(draw_rows(task, count, seed))]

    assert indices(6, seed=1) == [0, 3, 6, 7, 9, 35]
    assert indices(6, seed=2) == [3, 6, 14, 20, 28, 33]
    assert (6, 36) in [record.args for record in caplog.records]
    assert set(indices(6, seed=1)) < set(indices(20, seed=1))
    assert draw_rows(task, 36, 1) is draw_rows(task, 99, 1) is task


def test_the_slice_is_a_part_of_the_rows_drawn(tmp_path: Path) -> None:
    """100 rows are 100 labels in all: no other row chooses an epoch."""
    lines = [{"s": text, "label": row["label"]} for row in numbered(400) for text in row["texts"]]
    files = {"train": file(tmp_path / "train.jsonl", lines)}
    files["validation"] = file(tmp_path / "validation.jsonl", [{"s": "a", "label": 0}])
    whole = load(files)
    few = load(files, seed=1, train_rows=100)
    assert [len(few.train), len(few.select)] == [90, 10]
    assert [len(whole.train), len(whole.select)] == [360, 40]
    assert load(files, train_rows=5000) == whole
    assert few.fingerprint != load(files, seed=2, train_rows=100).fingerprint
    assert few.read == whole.read
