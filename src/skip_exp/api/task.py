"""A task from rows of any kind: its classes, its tables and its config group."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from skip_exp.data.read import Table, read_class_names, to_plain, to_table
from skip_exp.data.rows import NUMBER, integer_text
from skip_exp.data.text import shown, shown_names
from skip_exp.errors import DataError
from skip_exp.utils import files

log = logging.getLogger(__name__)

ROWS_FOLDER = ".data"  # below the output folder: rows that are no file yet
MOST = 1000  # classes; more are rather a column of texts


class RowOptions(TypedDict, total=False):
    """What :func:`skip_exp.fit` and :func:`skip_exp.compress` take about their rows.

    Attributes:
        text: the column of the texts (default: ``text``); two for a task on pairs.
        label: the column of the labels (default: ``label``).
        validation: rows that are scored, of any kind that ``data`` may be; lists as (texts,
            labels). None: a fifth of ``data`` is set apart, stratified.
        classes: names of the classes, in order. None: all that the labels have, in the data set's
            order where it has one; for a classifier to compress, those of its ``id2label``.
        group: column whose equal values, such as a user's, stay on one side of a made split.
        name: of the task in results; None: the file's.
    """

    text: str | Sequence[str]
    label: str
    validation: Any
    classes: Sequence[str] | None
    group: str | None
    name: str | None


@dataclass(frozen=True)
class Task:
    """A task and its rows.

    Attributes:
        config: the config group ``task``, whose ``files`` name the rows for other commands.
        tables: the rows of these files, by path.
    """

    config: dict[str, Any]
    tables: dict[str, Table]


def build_task(
    data: Any,
    labels: Sequence[Any] | None,
    root: Path,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    validation: Any = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    name: str | None = None,
) -> Task:
    """The task of rows of any kind. The keywords are :class:`RowOptions`.

    Args:
        root: folder below which rows that are no file are written.

    Raises:
        DataError: rows that cannot be read, a missing column, or a label column of free text.
    """
    text = [text] if isinstance(text, str) or not isinstance(text, Iterable) else list(text)
    more = [group] if group else []
    for column in (*text, label, *more):
        if not isinstance(column, str):
            raise DataError(f"{shown(column)}: not the name of a column, such as text='comment'")
    splits = {"train": to_table(data, text, label, labels, more)}
    given = {"train": data, "validation": validation}
    if isinstance(validation, tuple):
        if len(validation) != 2:
            raise DataError(f"validation: {shown(validation)}: must be (texts, labels)")
        rows, names = validation
        splits["validation"] = to_table(rows, text, label, names, what="validation")
    elif validation is not None:
        splits["validation"] = to_table(validation, text, label, what="validation")
    if classes is None:
        classes = _found_classes(splits, label, read_class_names(data, label) or [])
    named = name or (Path(data).stem if isinstance(data, str | Path) else "task")
    paths = {split: _file(given[split], table, root) for split, table in splits.items()}
    config = {
        "name": re.sub(r"[^\w.-]+", "_", named).strip("_") or "task",
        "files": paths,
        "text": text,
        "label": label,
        "labels": [*map(str, classes)],
        "metrics": ["accuracy", "f1_macro"],
    }
    if group:
        config["group"] = group
    return Task(config, {paths[split]: table for split, table in splits.items()})


def _found_classes(splits: dict[str, Table], label: str, order: Sequence[str]) -> list[str]:
    """The classes of the train rows, in the order of a data set that has one. Raises DataError."""
    train = splits["train"]
    try:
        classes = find_classes(train, label)
    except DataError:  # rather say what is wrong with the rows that could not be read
        train.report_bad(train.bad, drop=False, fix="")
        raise
    classes.sort(key=lambda name: order.index(name) if name in order else len(order))
    if "validation" in splits and classes != order:  # else an index is the data set's own
        _check_no_index(splits["validation"], classes, label)
    return classes


def _file(given: Any, table: Table, root: Path) -> str:
    """The file of a split: the user's own, else one named by its content."""
    if isinstance(given, str | Path):
        return str(Path(table.where).resolve())
    content = "".join(json.dumps(row) + "\n" for row in table.rows.values()).encode()
    path = root / ROWS_FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not os.path.isfile(path):  # no error where the folder may not be read
        files.save(path, content, f"output={root}")
    return str(path.resolve())


def find_classes(table: Table, column: str) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts = Counter(_names(table, column))
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
    return names


def _check_no_index(table: Table, classes: Sequence[str], column: str) -> None:
    """Refuse an index: the order of classes that were found is not the user's. Raises DataError."""
    if [name.casefold() for name in classes] in (["false", "true"], ["no", "yes"]):
        return  # there 0 and 1 say the same
    if any(map(NUMBER.fullmatch, classes)):
        return  # there no label is an index
    if wrong := sorted(filter(NUMBER.fullmatch, _names(table, column))):
        what = f"label={column}: {wrong[0]}: the train rows have {shown_names(classes)}"
        raise DataError(f"{table.where}: {what}; give classes= if labels are indices")


def _names(table: Table, column: str) -> list[str]:
    """The labels of all rows that have one, as names of classes. Raises DataError."""
    names = []
    for value in table.column(column):
        try:
            value = to_plain(column, value)
        except ValueError as error:
            raise DataError(f"{table.where}: {error}") from error
        name = str(value).lower() if isinstance(value, bool) else integer_text(str(value))
        if value is not None and name:
            names.append(name)
    return names


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name
