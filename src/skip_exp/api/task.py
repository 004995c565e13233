"""A task from rows: its classes, its files and its config group."""

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.data.given import names_in, table_of
from skip_exp.data.rows import NUMBER, integer_text, report_bad
from skip_exp.data.tables import BAD
from skip_exp.data.text import check_columns, columns_of, shown
from skip_exp.errors import DataError
from skip_exp.utils import files

log = logging.getLogger(__name__)

FOLDER = ".data"  # below the output folder: rows that are no file yet
MOST = 1000  # classes; more are rather a column of texts


def task_of(
    data: Any,
    labels: Sequence[Any] | None,
    *,
    text: str | Sequence[str],
    label: str,
    validation: Any,
    classes: Sequence[str] | None,
    group: str | None,
    name: str | None,
    root: Path,
) -> dict[str, Any]:
    """The config group ``task`` for rows of any kind.

    Args:
        validation: rows of the reported split, of any kind; None: a part of ``data``. Lists are
            given as (texts, labels).
        classes: names of the classes, in order; None: all that the label column has, in the
            order of the data set where it has one.
        group: column of ``data`` whose equal values stay on one side of a made split.
        name: of the task; None: the file's.
        root: folder below which rows that are no file are written.

    Raises:
        DataError: rows that cannot be read, a missing column, or a label column of free text.
    """
    text = [text] if isinstance(text, str) or not isinstance(text, Iterable) else list(text)
    more = [group] if group else []
    if wrong := [name for name in (*text, label, *more) if not isinstance(name, str)]:
        raise DataError(f"{shown(wrong[0])}: not the name of a column, such as text='comment'")
    table, where = table_of(data, text, label, labels, more)
    check_columns(list(table.columns), [label], where)
    given = {"train": (data, table, where)}
    if isinstance(validation, tuple):
        if len(validation) != 2:
            raise DataError(f"validation: {shown(validation)}: must be (texts, labels)")
        rows, names = validation
        given["validation"] = (None, *table_of(rows, text, label, names, what="validation"))
    elif validation is not None:
        given["validation"] = (validation, *table_of(validation, text, label, what="validation"))
    columns = {split: columns_of(text, label) for split in given}
    columns["train"] += more
    for split, (_, rows, place) in given.items():
        check_columns(list(rows.columns), columns[split], place)
    named = name or (Path(data).stem if isinstance(data, str | Path) else "task")
    return {
        "name": re.sub(r"[^\w.-]+", "_", named).strip("_") or "task",
        "files": {split: _file(*each, columns[split], root) for split, each in given.items()},
        "text": text,
        "label": label,
        "labels": [*map(str, _found_classes(given, label) if classes is None else classes)],
        **({"group": group} if group else {}),
        "metrics": ["accuracy", "f1_macro"],
    }


def _found_classes(given: Mapping[str, tuple[Any, pd.DataFrame, str]], label: str) -> list[str]:
    """The classes of the train rows, in the order of a data set that has one. Raises DataError."""
    (data, table, where), *others = given.values()
    order = names_in(data, label) or []
    try:
        classes = classes_of(table[label].tolist(), where, label)
    except DataError:  # rather say what is wrong with the rows that could not be read
        report_bad(table.attrs.get(BAD, {}), str(table.index.name), where, drop=False, fix="")
        raise
    classes.sort(key=lambda name: order.index(name) if name in order else len(order))
    if classes != order:  # else an index is the data set's own
        for _, other, place in others:
            _check_no_index(other[label].tolist(), classes, place, label)
    return classes


def _file(given: Any, table: pd.DataFrame, where: str, columns: Sequence[str], root: Path) -> str:
    """The file of a split: the user's own, else one named by its content."""
    if isinstance(given, str | Path):
        return str(Path(where).resolve())
    kept = table[list(dict.fromkeys(columns))].astype(object)
    records = kept.where(kept.notna(), None).to_dict("records")
    content = "".join(json.dumps(row, default=_plain) + "\n" for row in records).encode()
    path = root / FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not os.path.isfile(path):  # no error where the folder may not be read
        files.save(path, content, f"output={root}")
    return str(path.resolve())


def _plain(value: Any) -> Any:
    """A number of NumPy or torch as Python's, a date or the like as text.

    Raises:
        DataError: a value with several parts, or bytes.
    """
    try:
        value = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError) as error:
        raise DataError(f"data: {shown(value)}: must be one text or one label") from error
    if isinstance(value, bytes | bytearray):
        raise DataError(f"data: {shown(value)}: must be a text, not bytes; decode it first")
    if isinstance(value, Collection) and not isinstance(value, str):
        raise DataError(f"data: {shown(value)}: must be one text or one label")
    return value if isinstance(value, bool | int | float | str) else str(value)


def classes_of(values: Sequence[Any], where: str, column: str) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts = Counter(filter(None, map(_name, _given(values))))
    spellings: dict[str, list[str]] = {}
    for spelling, _ in counts.most_common():
        spellings.setdefault(spelling.casefold(), []).append(spelling)
    for joined in (each for each in spellings.values() if len(each) > 1):
        log.warning("data: the labels %s are one class, %s", " and ".join(joined), joined[0])
    names = sorted((each[0] for each in spellings.values()), key=_natural)
    if len(names) < 2 or len(names) > min(MOST, counts.total() / 2):
        what = f"{len(names)} different values in {counts.total()} rows"
        raise DataError(f"{where}: label={column}: {what}: not a column of classes")
    return names


def _check_no_index(values: Sequence[Any], classes: Sequence[str], where: str, column: str) -> None:
    """Refuse an index: the order of classes that were found is not the user's. Raises DataError."""
    if [name.casefold() for name in classes] in (["false", "true"], ["no", "yes"]):
        return  # there 0 and 1 say the same
    if any(map(NUMBER.fullmatch, classes)):
        return  # there no label is an index
    names = set(map(_name, _given(values)))
    if wrong := sorted(filter(NUMBER.fullmatch, names)):
        known = ", ".join(classes[:5]) + ", ..." * (len(classes) > 5)
        what = f"label={column}: {wrong[0]}: the train rows have {known}"
        raise DataError(f"{where}: {what}; give classes= if labels are indices")


def _given(values: Sequence[Any]) -> list[Any]:
    """The values that are there."""
    return [each for each in values if not (pd.api.types.is_scalar(each) and pd.isna(each))]


def _name(value: Any) -> str:
    value = _plain(value)
    return str(value).lower() if isinstance(value, bool) else integer_text(str(value))


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name
