"""A task from rows of any kind: its tables, its classes and its config group."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from skip_exp.config.checks import one_of
from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.data.given import read_class_names, to_table
from skip_exp.data.read import Table
from skip_exp.data.rows import get_labels, to_rows
from skip_exp.errors import DataError, shown, shown_names
from skip_exp.outcomes.labels import NUMBER, find_slips, label_text, with_indices
from skip_exp.outcomes.registry import OUTCOMES, Outcome
from skip_exp.utils import files
from skip_exp.utils.console import say_nothing

log = logging.getLogger(__name__)

MOST_CLASSES = 1000  # classes; more are rather a column of texts
FREQUENT = 10  # rows of a class; a label of a single row may be a slip that means it
ROWS_FOLDER = ".data"  # below the output folder: rows that are no file yet


@dataclass(frozen=True)
class Given:
    """Rows as a user gives them to :func:`skip_exp.fit` and :func:`skip_exp.compress`.

    Attributes:
        splits: train, and validation where it is given.
        text: columns of the texts.
        label: column of the labels, or columns of 0 and 1 for each.
        order: the classes of a data set in its order.
    """

    splits: dict[str, Table]
    text: list[str]
    label: str | list[str]
    order: list[str]


def read_given(
    data: Any,
    text: str | Sequence[str],
    label: str | Sequence[str],
    validation: Any,
    cfg: DictConfig,
) -> Given:
    """Read the rows. Imports no torch, so that a mistyped file or column is refused at once.

    Args:
        cfg: whose ``data`` says how files are read, and whose ``task.group`` is a column.

    Raises:
        SkipError: rows that cannot be read, or a missing column.
    """
    reading = to_object(cfg.data, DataConfig)
    columns = [text] if isinstance(text, str) or not isinstance(text, Iterable) else list(text)
    target = label if isinstance(label, str) or not isinstance(label, Iterable) else list(label)
    group = [cfg.task.group] if cfg.task.group else []
    for column in columns + (target if isinstance(target, list) else [target]):
        if not isinstance(column, str):
            raise DataError(f"{shown(column)}: not the name of a column, such as text='comment'")
    splits = {"train": to_table(data, columns, target, reading, group)}
    if validation is not None:
        splits["validation"] = to_table(validation, columns, target, reading)
    return Given(splits, columns, target, read_class_names(data, target) or [])


def describe_task(user_rows: Given, cfg: DictConfig, root: Path) -> dict[str, Any]:
    """The config group ``task`` of the rows; what ``cfg.task`` says already counts.

    Bad rows are refused here, before torch is loaded.

    Args:
        root: folder below which rows that are no file are written.

    Raises:
        SkipError: bad rows, or a label column of free text.
    """
    settings: Any = OmegaConf.to_container(cfg.task)
    task = {key: value for key, value in settings.items() if value != MISSING}
    train = user_rows.splits["train"]
    label = user_rows.label
    column = label if isinstance(label, str) else ""

    # Rows of several labels show by their cells, or by their columns.
    if not column or any(isinstance(cells[column], list) for cells in train.rows):
        task["kind"] = "many_labels"
    one_of("task.kind", task["kind"], tuple(OUTCOMES))
    outcome = OUTCOMES[task["kind"]]
    task["name"] = task.get("name") or _name_of(train)
    task["text"] = user_rows.text
    task["label"] = column
    if "labels" not in task:
        task["labels"] = _list_classes(user_rows, outcome) if column else label
    elif not column and set(task["labels"]) != set(label):
        raise DataError(
            f"label: the columns {shown_names(label)} "
            f"are not the classes {shown_names(task['labels'])}"
        )

    # The job itself names the rows that it leaves out.
    spec = TaskConfig(**{"metrics": outcome.choose_metrics([])} | task)
    rows = {}
    with say_nothing():
        for split, table in user_rows.splits.items():
            rows[split] = to_rows(table, spec, split, cfg.data.drop_bad)
    if "metrics" not in task:
        task["metrics"] = outcome.choose_metrics(get_labels(list(rows["train"].values())))
    for split, table in user_rows.splits.items():
        task["files"][split] = _file(table, root)
    return task


def _name_of(table: Table) -> str:
    """The name of the table's file, without its ending."""
    if table.file is None:
        return "task"
    name = table.file.name[: -len(files.find_suffix(table.file))]
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "task"


def _list_classes(user_rows: Given, outcome: Outcome) -> list[str]:
    """The classes of the train rows, in the order of a data set that has one. Raises DataError."""
    order = user_rows.order
    column = str(user_rows.label)
    classes = find_classes(user_rows.splits["train"], column, outcome, order)
    classes.sort(key=lambda name: order.index(name) if name in order else len(order))
    validation = user_rows.splits.get("validation")
    if validation is None or classes == order or not with_indices(classes):
        return classes
    for cells in validation.rows:  # the order that was found is not the user's
        value = cells[column]
        if isinstance(value, str | int | float) and label_text(value).isdecimal():
            raise DataError(
                f"{validation.where}: label={column}: {value}: the train rows have "
                f"{shown_names(classes)}; give task.labels if labels are indices"
            )
    return classes


def find_classes(
    table: Table, column: str, outcome: Outcome, known: Sequence[str] = ()
) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    A label of a single row that is nearly a frequent class, such as "humann", is none.

    Args:
        known: classes that are no slips.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts = Counter[str]()
    bad: dict[int, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            counts.update(filter(None, map(label_text, outcome.split(row[column]))))
        except ValueError as error:
            bad[number] = str(error)
    spellings: dict[str, list[str]] = {}
    for spelling, _ in counts.most_common():
        spellings.setdefault(spelling.casefold(), []).append(spelling)
    frequent = [word for word, joined in spellings.items() if counts[joined[0]] >= FREQUENT]
    names: list[str] = []
    for word, joined in spellings.items():
        if len(joined) > 1:
            log.warning("data: the labels %s are one class, %s", " and ".join(joined), joined[0])
        elif counts[joined[0]] == 1 and joined[0] not in known and find_slips(word, frequent):
            continue  # its row is a bad one, as any with an unknown label
        names.append(joined[0])
    names.sort(key=_natural)
    if len(names) < 2 or len(names) > min(MOST_CLASSES, counts.total() / 2):
        table.report_bad(bad, drop=False, advice="")  # rather than to count what was read
        raise DataError(
            f"{table.where}: label={column}: {len(names)} different values in "
            f"{counts.total()} rows: not a column of classes"
        )
    return names


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name


def _file(table: Table, root: Path) -> str:
    """The file of a split: the user's own, else one named by its content."""
    if table.file is not None:
        return str(table.file.resolve())
    # What JSON has no value for, such as bytes, is a bad row.
    content = "".join(json.dumps(row, default=lambda _: None) + "\n" for row in table.rows).encode()
    path = root / ROWS_FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not os.path.isfile(path):  # no error where the folder may not be read
        files.save(path, content, f"output={root}")
    return str(path.resolve())
