"""Which rows are set apart: for validation where a task has no split for it, and for selection.

Rows of one *unit* stay together: rows with the same text, and the rows of a group.
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

VALIDATION = 0.2  # fraction of the rows that become the validation split
NOT_APART = "no rows with texts and groups of their own leave every label in train"
NO_LABEL = -1  # stands for the label of a row that has none of several
SELECT_EVERY = 10  # texts whose first row has index % 10 == 9 are the selection slice

Unit = list[int]  # its rows
Classes = Sequence[tuple[int, ...]]  # of every row


def join_rows(texts: Sequence[Hashable], groups: Sequence[Hashable] | None) -> Sequence[Hashable]:
    """The unit of every row: equal for rows with the same text, or of groups that share one.

    Example:
        >>> units = join_rows(["a", "b", "a", "c"], ["x", "y", "z", "z"])
        >>> [units.index(unit) for unit in units]
        [0, 1, 0, 0]
    """
    if groups is None:
        return texts
    from scipy.cluster.hierarchy import DisjointSet  # takes long, and few tasks have groups

    units = DisjointSet()  # of texts and groups, which a row connects
    for text, group in zip(texts, groups, strict=True):
        units.add(("text", text))
        units.add(("group", group))
        units.merge(("text", text), ("group", group))
    return [units["text", text] for text in texts]


def list_classes(label: Any) -> tuple[int, ...]:
    """The class indices of a row: of one label, or of several as 0 and 1.

    Example:
        >>> list_classes(2), list_classes((1, 0, 1)), list_classes((0, 0, 0))
        ((2,), (0, 2), (-1,))
    """
    if isinstance(label, int):
        return (label,)
    return tuple(i for i, has in enumerate(label) if has) or (NO_LABEL,)


def draw_stratified(
    labels: Sequence[Any],
    units: Sequence[Hashable],
    seed: int,
    part: float = VALIDATION,
    barred: Collection[Hashable] = (),
) -> list[int]:
    """Indices of random rows, about ``part`` of each label's, in order; never all of a label's.

    Example:
        >>> draw_stratified([0, 0, 0, 0, 1, 1, 1, 1], range(8), seed=1, part=0.25)
        [0, 5]

    Args:
        labels: class indices, or 0/1 of every label for rows that have several.
        units: see :func:`join_rows`. A unit is taken where that brings the numbers of rows nearer
            to what is wanted; if none does, the one of several rows that is least too large.
        barred: units that are not drawn.
    """
    classes = [list_classes(label) for label in labels]
    has_several = any(len(row_classes) > 1 for row_classes in classes)
    left = _count_classes(classes, range(len(classes)))
    wanted = {label: part * count for label, count in left.items()}
    taken: list[int] = []
    of_several: list[tuple[float, Unit]] = []
    for unit in _shuffle(_list_units(units), seed):
        counts = _count_classes(classes, unit)
        if units[unit[0]] in barred or _takes_last(counts, left):
            continue
        nearer = sum(abs(wanted[x]) - abs(wanted[x] - count) for x, count in counts.items())
        # A row of several labels is as often too much for one as it is wanted for another.
        if nearer > 0 or (nearer == 0 and not has_several):
            taken += unit
            for label, count in counts.items():
                left[label] -= count
                wanted[label] -= count
        if len(unit) > 1:
            of_several.append((-nearer, unit))
    if not taken and of_several:  # each unit has more rows than are wanted
        _, taken = min(of_several)
    return sorted(taken)


def choose_slice(
    labels: Sequence[Any], units: Sequence[Hashable], *, is_grouped: bool = False
) -> list[int]:
    """Indices of the selection slice: every tenth row, with all rows of its text.

    A text is where its first row is, so that a repeated one moves no other. Of groups every tenth
    is taken. Of fewer than ten units it is the last, of a single one nothing.

    Where labels take turns in a file, every tenth row may be all that there is of a label, or none
    of it; and a unit may have most of the rows. The slice is then drawn at random. Rows of a rare
    label that would all be in the slice stay in train, unless no label has two rows.
    """
    members = _list_units(units)
    tenth = []
    for position, unit in enumerate(members):
        index = position if is_grouped else unit[0]
        if index % SELECT_EVERY == SELECT_EVERY - 1:
            tenth.append(unit)
    tenth = tenth or members[1:][-1:]
    rows = list(chain.from_iterable(tenth))
    classes = [list_classes(label) for label in labels]
    total = _count_classes(classes, range(len(classes)))
    held = _count_classes(classes, rows)
    # Labels may take turns in the file, and a unit may have most of the rows.
    if not _is_balanced(held, total) or len(rows) > 2 * VALIDATION * len(labels):
        return draw_stratified(labels, units, 0, 1 / SELECT_EVERY)
    # What train does not see, it cannot learn.
    rare = {label for label in total if held.get(label) == total[label]}
    chosen = [unit for unit in tenth if not rare.intersection(_count_classes(classes, unit))]
    # Where many labels are rare, sparing them leaves little of the slice.
    if 2 * sum(map(len, chosen)) < len(rows):
        chosen = _draw_sparing(classes, members, len(rows))
    return sorted(chain.from_iterable(chosen or tenth))


def _is_balanced(held: dict[int, int], total: dict[int, int]) -> bool:
    """Whether every frequent label is in the slice, and not with all of its rows."""
    for label, count in total.items():
        if count >= SELECT_EVERY and not 0 < held.get(label, 0) < count:
            return False
    return True


def _draw_sparing(classes: Classes, members: list[Unit], size: int) -> list[Unit]:
    """Random units of ``size`` rows, or fewer: of each label one row is left."""
    left = _count_classes(classes, range(len(classes)))
    drawn = []
    for unit in _shuffle(members, seed=0):
        counts = _count_classes(classes, unit)
        if len(unit) <= size and not _takes_last(counts, left):
            for label, count in counts.items():
                left[label] -= count
            drawn.append(unit)
            size -= len(unit)
    return drawn


def _shuffle(members: list[Unit], seed: int) -> list[Unit]:
    return [members[i] for i in np.random.default_rng(seed).permutation(len(members))]


def _takes_last(counts: dict[int, int], left: dict[int, int]) -> bool:
    """Whether rows with these counts are all that is left of a label."""
    return any(left[label] <= count for label, count in counts.items())


def _count_classes(classes: Classes, rows: Iterable[int]) -> dict[int, int]:
    """How many of these rows have each label."""
    counts: dict[int, int] = {}  # a Counter takes ten times as long for a single row
    for row in rows:
        for label in classes[row]:
            counts[label] = counts.get(label, 0) + 1
    return counts


def _list_units(units: Sequence[Hashable]) -> list[Unit]:
    """The rows of each unit; units in the order of their first rows."""
    members: dict[Hashable, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    return list(members.values())
