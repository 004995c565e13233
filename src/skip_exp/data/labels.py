"""The classes of a label column, where nobody names them."""

import logging
from collections import Counter
from collections.abc import Sequence

from skip_exp.data.read import Table
from skip_exp.errors import DataError
from skip_exp.outcomes.labels import NUMBER, label_text, split_labels
from skip_exp.outcomes.registry import Outcome

log = logging.getLogger(__name__)

MOST_CLASSES = 1000  # classes; more are rather a column of texts


def find_classes(table: Table, column: str, outcome: Outcome) -> list[str]:
    """The classes that a label column has, in order; spellings that differ in case are one.

    Raises:
        DataError: fewer than two, or so many that the column holds texts.
    """
    counts: Counter[str] = Counter()
    bad: dict[int, str] = {}
    for number, row in enumerate(table.rows, 1):
        try:
            counts.update(filter(None, map(label_text, outcome.split(row[column]))))
        except ValueError as error:
            bad[number] = str(error)
    spellings: dict[str, list[str]] = {}
    for spelling, _ in counts.most_common():
        spellings.setdefault(spelling.casefold(), []).append(spelling)
    for joined in spellings.values():
        if len(joined) > 1:
            log.warning("data: the labels %s are one class, %s", " and ".join(joined), joined[0])
    names = sorted((each[0] for each in spellings.values()), key=_natural)
    if len(names) < 2 or len(names) > min(MOST_CLASSES, counts.total() / 2):
        table.report_bad(bad, drop=False, more="")  # rather than to count what was read
        what = f"{len(names)} different values in {counts.total()} rows"
        raise DataError(f"{table.where}: label={column}: {what}: not a column of classes")
    if outcome.is_exclusive:
        _warn_of_joined(names)
    return names


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers first, by value."""
    is_number = NUMBER.fullmatch(name) is not None
    return not is_number, float(name) if is_number else 0.0, name


def _warn_of_joined(names: Sequence[str]) -> None:
    """Name a class that joins others, such as ``price;service`` beside ``price``."""
    for name in names:
        parts = split_labels(name)
        if len(parts) > 1 and {*parts} <= {*names}:
            cure = "task.multilabel=true takes it apart"
            log.warning("data: the label %s joins others, but is a class: %s", name, cure)
            return
