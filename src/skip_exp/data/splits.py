"""Which rows are set apart: for validation where a task has no split for it, and for selection.

Rows of one *unit* stay together: rows with the same text, and the rows of a group.
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

VALIDATION = 0.2  # fraction of the rows that become the validation split
NOT_APART = "no rows with texts and groups of their own leave every label in train"
NO_LABEL = -1  # stands for the label of a row that has none of several
SELECT_EVERY = 10  # texts whose first row has index % 10 == 9 are the selection slice


def join_rows(texts: Sequence[Hashable], groups: Sequence[Hashable] | None) -> Sequence[Hashable]:
    """The unit of every row: equal for rows with the same text, or of groups that share one.

    Example:
        >>> join_rows(["a", "b", "a", "c"], ["x", "y", "z", "z"])
        [0, 1, 0, 0]
    """
    if groups is None:
        return texts
    from scipy.sparse import coo_array  # takes a tenth of a second, and few tasks have groups
    from scipy.sparse.csgraph import connected_components

    nodes: dict[Hashable, int] = {}  # texts and groups, which a row connects
    ends = [
        (nodes.setdefault(("text", text), len(nodes)), nodes.setdefault(("group", of), len(nodes)))
        for text, of in zip(texts, groups, strict=True)
    ]
    edges = np.ones(len(ends)), np.array(ends, int).reshape(-1, 2).T
    _, unit = connected_components(coo_array(edges, shape=(len(nodes), len(nodes))))
    return [int(unit[text]) for text, _ in ends]


def labels_of(label: Any) -> tuple[int, ...]:
    """The class indices of a row: of one label, or of several as 0 and 1.

    Example:
        >>> labels_of(2), labels_of((1, 0, 1)), labels_of((0, 0, 0))
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
    labels = [labels_of(label) for label in labels]
    has_several = any(len(each) > 1 for each in labels)
    members, left = _members(units), _count_labels(labels, range(len(labels)))
    wanted = {label: part * count for label, count in left.items()}
    taken: list[int] = []
    of_several: list[tuple[float, list[int]]] = []
    for unit in (members[i] for i in np.random.default_rng(seed).permutation(len(members))):
        counts = _count_labels(labels, unit)
        if units[unit[0]] in barred or any(left[x] <= count for x, count in counts.items()):
            continue  # barred, or all that is left of a label
        nearer = sum(abs(wanted[x]) - abs(wanted[x] - count) for x, count in counts.items())
        # A row of several labels is as often too much for one as it is wanted for another.
        if nearer > 0 or (nearer == 0 and not has_several):
            taken += unit
            for label, count in counts.items():
                left[label] -= count
                wanted[label] -= count
        if len(unit) > 1:
            of_several.append((-nearer, unit))
    return sorted(taken or min(of_several, default=(0.0, taken))[1])


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
    members = _members(units)
    chosen = []
    for position, unit in enumerate(members):
        place = position if is_grouped else unit[0]
        if place % SELECT_EVERY == SELECT_EVERY - 1:
            chosen.append(unit)
    chosen = chosen or members[1:][-1:]
    of_rows = [labels_of(label) for label in labels]
    rows = [row for unit in chosen for row in unit]
    every, held = _count_labels(of_rows, range(len(labels))), _count_labels(of_rows, rows)
    frequent = [label for label, count in every.items() if count >= SELECT_EVERY]
    is_fair = all(0 < held.get(label, 0) < every[label] for label in frequent)
    if not is_fair or len(rows) > 2 * VALIDATION * len(labels):
        return draw_stratified(labels, units, 0, 1 / SELECT_EVERY)
    spared = []
    for unit in chosen:
        if all(held[label] < every[label] for label in _count_labels(of_rows, unit)):
            spared.append(unit)
    if 2 * sum(map(len, spared)) < len(rows):
        spared = _drawn(of_rows, members, len(rows)) or chosen
    return sorted(row for unit in spared for row in unit)


def _drawn(
    labels: Sequence[tuple[int, ...]], members: list[list[int]], count: int
) -> list[list[int]]:
    """Random units of ``count`` rows, or fewer: of each label one row is left."""
    left, drawn = _count_labels(labels, range(len(labels))), list[list[int]]()
    for unit in (members[i] for i in np.random.default_rng(0).permutation(len(members))):
        counts = _count_labels(labels, unit)
        is_left = all(left[label] > each for label, each in counts.items())
        if len(unit) <= count and is_left:
            for label, each in counts.items():
                left[label] -= each
            drawn.append(unit)
            count -= len(unit)
    return drawn


def _count_labels(labels: Sequence[tuple[int, ...]], rows: Iterable[int]) -> dict[int, int]:
    """How many of these rows have each label."""
    counts: dict[int, int] = {}  # a Counter takes ten times as long for a single row
    for row in rows:
        for label in labels[row]:
            counts[label] = counts.get(label, 0) + 1
    return counts


def _members(units: Sequence[Hashable]) -> list[list[int]]:
    """The rows of each unit; units in the order of their first rows."""
    members: dict[Hashable, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    return list(members.values())
