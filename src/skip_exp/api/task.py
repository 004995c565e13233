"""A task from rows of any kind: its classes, its tables and its config group."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from skip_exp.config.compose import quote
from skip_exp.config.names import MULTILABEL_METRICS
from skip_exp.config.schema import DataConfig
from skip_exp.data.read import read_class_names, to_plain, to_table
from skip_exp.data.rows import (
    JOINTS,
    NUMBER,
    find_label,
    find_rare,
    integer_text,
    split_cell,
    with_indices,
)
from skip_exp.data.table import Dialect, Table
from skip_exp.data.text import shown, shown_names
from skip_exp.errors import DataError
from skip_exp.utils import files
from skip_exp.utils.files import find_suffix

log = logging.getLogger(__name__)

ROWS_FOLDER = ".data"  # below the output folder: rows that are no file yet
MOST = 1000  # classes; more are rather a column of texts


class RowOptions(TypedDict, total=False):
    """What :func:`skip_exp.fit` and :func:`skip_exp.compress` take about their rows.

    Attributes:
        text: the column of the texts (default: ``text``); two for a task on pairs.
        label: the column of the labels (default: ``label``); several columns of 0 and 1 for rows
            of several labels.
        multilabel: rows have any number of labels: a list of names, or names joined by ``;``, ``|``
            or ``,``. Columns of 0 and 1 and lists are seen without it.
        validation: rows that are scored, of any kind that ``data`` may be; lists as (texts,
            labels). None: a fifth of ``data`` is set apart, stratified.
        classes: names of the classes, in order. None: all that the labels have, in the data set's
            order where it has one; for a classifier to compress, those of its ``id2label``.
        group: column whose equal values, such as a user's, stay on one side of a made split.
        name: of the task in results; None: the file's.
        sep, encoding: of CSV and other text files, where they are not found:
            :class:`skip_exp.data.table.Dialect`.
        drop_bad: leave out rows with an empty text or an unknown label.
        deduplicate: drop train rows that are also scored.
    """

    text: str | Sequence[str]
    label: str | Sequence[str]
    multilabel: bool
    validation: Any
    classes: Sequence[str] | None
    group: str | None
    name: str | None
    sep: str | None
    encoding: str
    drop_bad: bool
    deduplicate: bool


@dataclass(frozen=True)
class Task:
    """A task and its rows.

    Attributes:
        config: the config group ``task``, whose ``files`` name the rows for other commands.
        tables: the rows of these files, by path.
        settings: how a job reads these files, as overrides.
    """

    config: dict[str, Any]
    tables: dict[str, Table]
    settings: list[str] = field(default_factory=list)


def build_task(
    data: Any,
    labels: Sequence[Any] | None,
    root: Path,
    *,
    text: str | Sequence[str] = "text",
    label: str | Sequence[str] = "label",
    multilabel: bool = False,
    validation: Any = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    name: str | None = None,
    sep: str | None = None,
    encoding: str = "utf-8",
    drop_bad: bool = False,
    deduplicate: bool = False,
) -> Task:
    """The task of rows of any kind. The keywords are :class:`RowOptions`.

    Args:
        root: folder below which rows that are no file are written.

    Raises:
        DataError: rows that cannot be read, a missing column, or a label column of free text.
    """
    splits = read_tables(
        data,
        labels,
        text=text,
        label=label,
        validation=validation,
        group=group,
        sep=sep,
        encoding=encoding,
    )
    if not isinstance(label, str):
        multilabel, classes, column = True, _columns_in_order(label, classes), ""
    else:
        column = label
        multilabel = multilabel or any(isinstance(x, list) for x in splits["train"].column(label))
    if classes is None:
        order = read_class_names(data, label) or []
        classes = _found_classes(splits, column, order, multilabel)
    named = name or _name_of(splits["train"])
    paths = {split: _file(table, root) for split, table in splits.items()}
    config: dict[str, Any] = {
        "name": re.sub(r"[^\w.-]+", "_", named).strip("_") or "task",
        "files": paths,
        "text": _columns(text),
        "label": column,
        "labels": [*map(str, classes)],
        "metrics": [*MULTILABEL_METRICS],
    }
    if multilabel:
        config["multilabel"] = True
    else:
        values = splits["train"].column(column)
        config["metrics"] = _choose_metrics(values, config["labels"])
    if group:
        config["group"] = group
    settings = data_settings(sep=sep, encoding=encoding, drop_bad=drop_bad, deduplicate=deduplicate)
    return Task(config, {paths[split]: table for split, table in splits.items()}, settings)


def read_tables(
    data: Any,
    labels: Sequence[Any] | None = None,
    *,
    text: str | Sequence[str] = "text",
    label: str | Sequence[str] = "label",
    validation: Any = None,
    group: str | None = None,
    sep: str | None = None,
    encoding: str = "utf-8",
) -> dict[str, Table]:
    """The tables of a task's splits, which later calls take as ``data`` and ``validation``.

    Imports no torch, so that a mistyped file or column is refused at once.

    Raises:
        DataError: rows that cannot be read, or a missing column.
    """
    text, more, dialect = _columns(text), [group] if group else [], Dialect(sep, encoding)
    for column in (*text, *_columns(label), *more):
        if not isinstance(column, str):
            raise DataError(f"{shown(column)}: not the name of a column, such as text='comment'")
    splits = {"train": to_table(data, text, label, labels, more, dialect=dialect)}
    if validation is None:
        return splits
    rows, names = validation, None
    if isinstance(validation, tuple):
        if len(validation) != 2:
            raise DataError(f"validation: {shown(validation)}: must be (texts, labels)")
        rows, names = validation
    splits["validation"] = to_table(rows, text, label, names, (), "validation", dialect)
    return splits


def _columns(text: Any) -> list[Any]:
    return [text] if isinstance(text, str) or not isinstance(text, Iterable) else [*text]


def _columns_in_order(label: Sequence[str], classes: Sequence[str] | None) -> Sequence[str]:
    """The columns of 0 and 1, in the order of the classes, where it is given. Raises DataError."""
    if classes is not None and {*classes} != {*label}:
        why = f"are not the classes {shown_names([*classes])}"
        raise DataError(f"label: the columns {shown_names([*label])} {why}")
    return classes or label


def _name_of(table: Table) -> str:
    """The name of the table's file, without its ending."""
    if table.stamp is None:
        return "task"
    file = Path(table.where)
    return file.name[: -len(find_suffix(file))]


def data_settings(**given: Any) -> list[str]:
    """The overrides of the keys of ``data`` whose values are not the defaults.

    Example:
        >>> data_settings(sep=";", drop_bad=False)
        ["data.sep=';'"]
    """
    default, settings = DataConfig(), list[str]()
    for name, value in given.items():
        if value != getattr(default, name):
            text = quote(value) if isinstance(value, str) else str(value).lower()
            settings.append(f"data.{name}={text}")
    return settings


def _found_classes(
    splits: dict[str, Table], label: str, order: Sequence[str], multilabel: bool
) -> list[str]:
    """The classes of the train rows, in the order of a data set that has one. Raises DataError."""
    train = splits["train"]
    try:
        classes = find_classes(train, label, multilabel)
    except DataError:  # rather say what is wrong with the rows that could not be read
        train.report_bad(train.bad, drop=False, fix="")
        raise
    classes.sort(key=lambda name: order.index(name) if name in order else len(order))
    if "validation" in splits and classes != order:  # else an index is the data set's own
        _check_no_index(splits["validation"], classes, label, multilabel)
    return classes


def _choose_metrics(values: list[Any], classes: list[str]) -> list[str]:
    """The metrics, main one first: accuracy hardly sees a rare class."""
    are_indices = with_indices(classes)
    found = [find_label(str(value), classes, are_indices) for value in values if value is not None]
    is_rare = find_rare([index for index in found if index is not None])
    return ["f1_macro", "accuracy"] if is_rare else ["accuracy", "f1_macro"]


def _file(table: Table, root: Path) -> str:
    """The file of a split: the user's own, else one named by its content."""
    if table.stamp is not None:
        return str(Path(table.where).resolve())
    content = "".join(json.dumps(row) + "\n" for row in table.rows.values()).encode()
    path = root / ROWS_FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not os.path.isfile(path):  # no error where the folder may not be read
        files.save(path, content, f"output={root}")
    return str(path.resolve())


def find_classes(table: Table, column: str, multilabel: bool = False) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts = Counter(_names(table, column, multilabel))
    spellings: dict[str, list[str]] = {}
    for spelling, _ in counts.most_common():
        spellings.setdefault(spelling.casefold(), []).append(spelling)
    for joined in spellings.values():
        if len(joined) > 1:
            log.warning("data: the labels %s are one class, %s", " and ".join(joined), joined[0])
    names = sorted((each[0] for each in spellings.values()), key=_natural)
    if len(names) < 2 or len(names) > min(MOST, counts.total() / 2):
        what = f"{len(names)} different values in {counts.total()} rows"
        raise DataError(f"{table.where}: label={column}: {what}: not a column of classes")
    if not multilabel:
        _warn_of_joined(names)
    return names


def _warn_of_joined(names: list[str]) -> None:
    """Name a class that joins others, such as ``price;service`` beside ``price``."""
    for name in names:
        for joint in JOINTS:
            parts = split_cell(name, joint)
            if len(parts) > 1 and {*parts} <= {*names}:
                cure = "--multilabel (multilabel=True) takes it apart"
                log.warning("data: the label %s joins others, but is a class: %s", name, cure)
                return


def _check_no_index(table: Table, classes: Sequence[str], column: str, multilabel: bool) -> None:
    """Refuse an index: the order of classes that were found is not the user's. Raises DataError."""
    if [name.casefold() for name in classes] in (["false", "true"], ["no", "yes"]):
        return  # there 0 and 1 say the same
    if any(map(NUMBER.fullmatch, classes)):
        return  # there no label is an index
    if wrong := sorted(filter(NUMBER.fullmatch, _names(table, column, multilabel))):
        what = f"label={column}: {wrong[0]}: the train rows have {shown_names(classes)}"
        raise DataError(f"{table.where}: {what}; give classes= if labels are indices")


def _names(table: Table, column: str, multilabel: bool) -> list[str]:
    """The labels of all rows that have one, as names of classes. Raises DataError."""
    try:
        values = [to_plain(column, value) for value in table.column(column)]
    except ValueError as error:
        raise DataError(f"{table.where}: {error}") from error
    names = []
    for value in _split_all(values) if multilabel else values:
        name = str(value).lower() if isinstance(value, bool) else integer_text(str(value))
        if value is not None and name:
            names.append(name)
    return names


def _split_all(values: Sequence[Any]) -> list[Any]:
    """Every name in lists, and in cells that join names by the first of JOINTS in any of them."""
    cells = [value for value in values if isinstance(value, str)]
    joint = next((each for each in JOINTS if any(each in cell for cell in cells)), JOINTS[0])
    names: list[Any] = []
    for value in values:
        if isinstance(value, list):
            names += value
        elif isinstance(value, str):
            names += split_cell(value, joint)
        else:
            names.append(value)
    return names


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name
