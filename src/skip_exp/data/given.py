"""Rows as a Python user has them: a file, a data frame, a data set, or lists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from skip_exp.data.rows import report_bad
from skip_exp.data.tables import BAD, read_table
from skip_exp.data.text import columns_of, shown, texts_of
from skip_exp.errors import DataError


def table_of(
    data: Any,
    text: Sequence[str],
    label: str,
    labels: Sequence[Any] | None = None,
    more: Sequence[str] = (),
    what: str = "data",
) -> tuple[pd.DataFrame, str]:
    """The rows of ``data`` in named columns, and where they come from, for messages.

    Args:
        data: path of a CSV, JSON, JSON lines or Parquet file; a pandas data frame; a
            ``datasets.Dataset``; a list of rows as dictionaries; or, with ``labels``, a list of
            texts or pairs.
        text: columns, or templates of columns; lists of texts get these names.
        label: column of the labels.
        labels: one per text of a list.
        more: columns that are needed beside these.
        what: the argument that ``data`` is, for messages.

    Raises:
        DataError: none of these, a file that cannot be read, or lists of different lengths.
    """
    if labels is not None:
        if hasattr(data, "columns") or isinstance(data, str | Path) or isinstance(labels, str):
            why = "are for a list of texts; of a file or a data frame, name the column: label="
            raise DataError(f"labels: {why}")
        labels = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        return _of_lists(data, text, label, labels), "the lists"
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        return read_table(path, columns_of(text, label, *more)), str(path)
    if isinstance(data, pd.DataFrame):
        return data, "the data frame"
    if hasattr(data, "to_pandas") and hasattr(data, "features"):  # datasets.Dataset
        return _of_dataset(data, label), "the data set"
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        return pd.DataFrame(list(data), dtype=object), "the rows"
    raise DataError(
        f"{what}: {shown(data)}: must be a file, a data frame, a data set, a list of rows as "
        "dictionaries, or a list of texts with labels="
    )


def unlabelled(
    path: Path,
    text: Sequence[str],
    more: Sequence[str] = (),
    drop_bad: bool = False,
    fix: str = "--drop-bad",
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """The texts of a file's rows, and beside each {line: its number, columns: {name: value}}.

    Args:
        path: of a format of :mod:`tables`.
        text: columns, or templates of columns.
        more: columns to keep beside the texts; without any, there is no ``columns``.
        drop_bad: leave out rows without a text, with a warning.
        fix: what sets ``drop_bad``, for messages.

    Raises:
        DataError: the file cannot be read, lacks a column, or has bad rows.
    """
    table = read_table(path, columns_of(text, *more))
    bad: dict[int, str] = dict(table.attrs.get(BAD, {}))
    unit = str(table.index.name or "line")
    texts, beside = [], []
    for number, row in zip(table.index.tolist(), table.to_dict("records"), strict=True):
        try:
            texts.append(texts_of(row, text))
        except ValueError as error:
            bad[number] = str(error)
            continue
        kept = {"columns": {name: row[name] for name in more}} if more else {}
        beside.append({unit: number} | kept)
    report_bad(bad, unit, str(path), drop_bad, fix)
    return texts, beside


def names_in(data: Any, label: str) -> list[str] | None:
    """The names of the classes in order, where ``data`` is a data set that has them."""
    features = getattr(data, "features", None)
    return getattr(features.get(label), "names", None) if isinstance(features, Mapping) else None


def _of_lists(data: Any, text: Sequence[str], label: str, labels: Sequence[Any]) -> pd.DataFrame:
    texts = [list(each) if isinstance(each, list | tuple) else [each] for each in data]
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts, but {len(labels)} labels")
    if wrong := [each for each in texts if len(each) != len(text)]:
        what = "a text" if len(text) == 1 else "a pair of texts"
        raise DataError(f"{shown(wrong[0])}: must be {what}, as text={list(text)} says")
    table = pd.DataFrame(texts, columns=list(text), dtype=object)
    return table.assign(**{label: pd.Series(list(labels), dtype=object)})


def _of_dataset(data: Any, label: str) -> pd.DataFrame:
    table: pd.DataFrame = data.to_pandas()
    if label in table and (names := names_in(data, label)):
        table[label] = [names[int(i)] if i in range(len(names)) else None for i in table[label]]
    return table
