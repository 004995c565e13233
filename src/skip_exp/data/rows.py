"""A task's rows: from a table in the task's own columns to texts, labels and splits."""

import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip_exp.config.groups import TaskConfig
from skip_exp.data.batches import Row
from skip_exp.data.given import build_texts, columns_of
from skip_exp.data.read import FIX, Table
from skip_exp.data.splits import (
    NO_LABEL,
    NOT_APART,
    choose_slice,
    draw_stratified,
    join_rows,
    list_classes,
)
from skip_exp.errors import ConfigError, DataError, shown_names
from skip_exp.outcomes.labels import with_indices

log = logging.getLogger(__name__)

SELECT = "select"  # an optional split that replaces the selection slice of train
STAND_IN = "embedded:snli_pairs"  # the source whose rows are not the task's own
MIN_TRAIN = 20  # fewer rows leave almost nothing for the selection slice
_MOST = 5  # labels, or texts with two labels, that a warning names

Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class Rows:
    """The rows of a task; :func:`skip_exp.data.module.encode` adds their token ids.

    Attributes:
        select: the selection slice of train, or the rows of its own file; not in ``train``.
        extra: further scored splits, by name.
        source: local:<dir>, hub:<id> or embedded:<name>.
        fingerprint: hash of texts and labels; see :func:`hash_rows`.
        read: the same of the rows as they were read: equal for every seed.
        dropped: number of rows left out: bad ones, and duplicates in train or select.
        duplicates: number of validation rows whose texts are also in train or select.
        majority: scores of always predicting validation's most frequent label.
        tokenizer: that made the token ids; None before.
    """

    spec: TaskConfig
    train: list[Row]
    select: list[Row]
    validation: list[Row]
    extra: dict[str, list[Row]]
    source: str
    fingerprint: str
    read: str = ""
    dropped: int = 0
    duplicates: int = 0
    majority: dict[str, float] = field(default_factory=dict)
    tokenizer: Any = None

    @property
    def is_sample(self) -> bool:
        """Whether rows of another data set stand in for the task's own."""
        return self.source == STAND_IN

    def token_counts(self) -> NDArray[np.int64]:
        """Occurrences by token id in the train rows, without the selection slice."""
        ids = chain.from_iterable(row["input_ids"] for row in self.train)
        return np.bincount(np.fromiter(ids, np.int64))


def to_rows(table: Table, spec: TaskConfig, split: str, drop_bad: bool = False) -> dict[int, Row]:
    """Check a table and build the task's texts and labels, by the number of the row in the table.

    Args:
        drop_bad: leave bad rows out, with a warning, instead of refusing the table.

    Raises:
        DataError: no good rows, an empty cell, or an unknown label: the first bad rows at once.
        ConfigError: the label's column is one of the texts'.
    """
    for column in spec.label_columns:
        if column in columns_of(spec.text):
            raise ConfigError("task.label", column, "is a column of the texts, too")
    group = spec.group if split == spec.train else None  # others are not split again
    label_of = spec.outcome.reader(spec.labels, spec.label)
    rows: dict[int, Row] = {}
    bad: dict[int, str] = {}
    for number, cells in enumerate(table.rows, 1):
        try:
            row = Row(texts=build_texts(cells, spec.text), label=label_of(cells))
            if group:
                (row["group"],) = build_texts(cells, [group])
        except ValueError as error:
            bad[number] = str(error)
            continue
        rows[number] = row
    # An unknown label is mended by the task's description as often as in the table.
    advice = FIX if rows else ""
    if any(reason.startswith("label ") for reason in bad.values()):
        indices = f"0 to {len(spec.labels) - 1} or " if with_indices(spec.labels) else ""
        known = f"labels: {indices}one of {shown_names(spec.labels)}"
        cure = "to name them: task.labels=[A,B], of a given model --classes A,B"
        advice = f"{known} ({cure}); {advice}".removesuffix("; ")
    table.report_bad(bad, drop_bad, advice)
    if not rows:
        raise DataError(f"task {spec.name}: split {split} of {table.where} has no good rows")
    return rows


def warn_of_conflicts(table: Table, rows: Mapping[int, Row]) -> None:
    """Count the texts that have several labels, and name where the first of them are."""
    first: dict[tuple[str, ...], dict[Any, int]] = {}  # of a text: where each label is first
    for number, row in rows.items():
        first.setdefault(tuple(row["texts"]), {}).setdefault(row["label"], number)
    several = [numbers.values() for numbers in first.values() if len(numbers) > 1]
    conflicts = [" and ".join(map(str, numbers)) for numbers in several]
    if conflicts:
        log.warning(
            "data: %s: %d texts are labelled in several ways, such as those of row %s",
            table.where,
            len(conflicts),
            "; ".join(conflicts[:_MOST]),
        )


def get_texts(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The one or two texts of every row."""
    return [tuple(row["texts"]) for row in rows]


def get_labels(rows: Sequence[Row]) -> list[Any]:
    """Of every row the index of its label; of a task of several labels a 0 or 1 for each."""
    return [row["label"] for row in rows]


def list_labels(rows: Sequence[Row]) -> list[int]:
    """The labels of all rows in one list: of each row one, or several, or none."""
    labels: list[int] = []
    for row in rows:
        labels += list_classes(row["label"])
    return [label for label in labels if label != NO_LABEL]


def find_units(rows: Sequence[Row]) -> Sequence[Hashable]:
    """What keeps rows on one side of a split: see :func:`splits.join_rows`."""
    groups = [row["group"] for row in rows] if rows and "group" in rows[0] else None
    return join_rows(get_texts(rows), groups)


def set_apart(spec: TaskConfig, splits: Splits, seed: int) -> Splits:
    """Make a validation split of train rows, where a task has none. It has no text of select."""
    train = splits.pop(spec.train)
    units = find_units(train)
    # A text that chooses the epoch must not be scored, nor may one of its unit.
    select = set(get_texts(splits.get(SELECT, [])))
    texts_and_units = zip(get_texts(train), units, strict=True)
    barred = {unit for texts, unit in texts_and_units if texts in select}
    held = draw_stratified(get_labels(train), units, seed, barred=barred)
    log.info(
        "data: no %s file: %d of %d train rows are set apart, stratified, by seed %d",
        spec.validation,
        len(held),
        len(train),
        seed,
    )
    if not held:
        raise DataError(f"task {spec.name}: {NOT_APART}: give task.files.{spec.validation}")
    rest, validation = _divide(train, held)
    return {spec.train: rest, spec.validation: validation} | splits


def draw_rows(rows: list[Row], count: int, seed: int) -> list[Row]:
    """``count`` random train rows in their order; a smaller draw is a subset of a larger one."""
    total = len(rows)
    if count >= total:
        return rows
    order = np.random.default_rng(seed).permutation(total)
    log.info("data: drew %d of %d train rows (data.train_rows)", count, total)
    return [rows[i] for i in sorted(order[:count])]


def cut_slice(spec: TaskConfig, splits: Splits) -> tuple[list[Row], list[Row]]:
    """Train rows without the selection slice, and the slice: a part of train, or a given split.

    Raises:
        DataError: there is nothing to select by.
    """
    train = splits[spec.train]
    select = splits.get(SELECT)
    if select is None:
        chosen = choose_slice(get_labels(train), find_units(train), is_grouped="group" in train[0])
        train, select = _divide(train, chosen)
    if not select:
        raise DataError(f"task {spec.name}: {NOT_APART}: give task.files.{SELECT} its own rows")
    unseen = sorted(set(list_labels(train)).difference(list_labels(select)))
    if unseen:
        names = shown_names([spec.labels[label] for label in unseen], _MOST)
        log.warning("data: labels that no row of the selection slice has: %s", names)
    return train, select


def _divide(rows: list[Row], chosen: Sequence[int]) -> tuple[list[Row], list[Row]]:
    """The rows that are not chosen, and those that are."""
    others = set(range(len(rows))).difference(chosen)
    return [rows[i] for i in sorted(others)], [rows[i] for i in chosen]


def separate(spec: TaskConfig, splits: Splits, drop: bool) -> Splits:
    """Compare every two splits of which one must not know the texts of the other.

    What is scored may neither train a model nor choose its epoch; what chooses may not train it.

    Args:
        drop: leave repeated rows out of train, then of select, and score all that are given. Else
            they stay, and a warning counts them.
    """
    separated = dict(splits)
    # Train first loses what select has: a later pair sees the rows that are left.
    pairs = [(spec.train, SELECT)]
    pairs += product((spec.train, SELECT), (spec.validation, *spec.extra))
    for name, other in pairs:
        rows = separated.get(name, [])
        others = separated.get(other, [])
        shared = set(get_texts(rows)).intersection(get_texts(others))
        repeated = sum(texts in shared for texts in get_texts(others))
        if repeated and drop:
            separated[name] = [row for row in rows if tuple(row["texts"]) not in shared]
            log.info("data: dropped %s rows: %d %s rows repeat them", name, repeated, other)
        elif repeated:
            log.warning(
                "data: %d of %d %s rows are also %s rows (data.deduplicate=true drops those)",
                repeated,
                len(others),
                other,
                name,
            )
    return separated


def check_train(spec: TaskConfig, rows: list[Row], where: str) -> None:
    if len(rows) < MIN_TRAIN:
        raise DataError(
            f"task {spec.name}: {len(rows)} train rows in {where}, must be at least {MIN_TRAIN} "
            "(every tenth is held out for selection)"
        )
    if len(set(get_labels(rows))) == 1:
        name = spec.outcome.name(rows[0]["label"], spec.labels)
        raise DataError(
            f"task {spec.name}: all {len(rows)} train rows of {where} have the label {name!r}; "
            "training needs at least two labels"
        )
    present = set(list_labels(rows))
    absent = [name for i, name in enumerate(spec.labels) if i not in present]
    if absent:
        log.warning("data: no train row of %s has the label %s", where, " or ".join(absent))


def hash_rows(splits: Mapping[str, Sequence[Row]]) -> str:
    """Hash of split names, texts, labels and groups; independent of where they were read from."""
    digest = hashlib.sha256()
    for name, rows in splits.items():
        first = [row["texts"][0] for row in rows]
        second = [row["texts"][1] for row in rows] if len(rows[0]["texts"]) > 1 else None
        parts: list[Any] = [name, first, second, get_labels(rows)]
        if "group" in rows[0]:
            parts.append([row["group"] for row in rows])
        for part in parts:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
