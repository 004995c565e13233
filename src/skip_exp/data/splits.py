"""Which rows are set apart: for validation where a task has no split for it, and for selection."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

VALIDATION = 0.2  # fraction of the rows that become the validation split
SELECT_EVERY = 10  # train rows with index % 10 == 9 are the selection slice, as a rule


def stratified(
    labels: Sequence[int], groups: Sequence[Hashable] | None, seed: int, part: float = VALIDATION
) -> list[int]:
    """Indices of random rows, about ``part`` of each label's, in order.

    Example:
        >>> stratified([0, 0, 0, 0, 1, 1, 1, 1], None, seed=1, part=0.25)
        [0, 5]

    Args:
        groups: rows of one group stay together; a group has the label of its first row.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(range(len(labels)) if groups is None else groups):
        members.setdefault(group, []).append(row)
    units = list(members.values())
    order = np.random.default_rng(seed).permutation(len(units))
    wanted = {label: part * count for label, count in Counter(labels).items()}
    taken: list[int] = []
    for unit in (units[i] for i in order):
        if wanted[labels[unit[0]]] >= 0.5:
            taken += unit
            for row in unit:
                wanted[labels[row]] -= 1
    return sorted(taken)


def selection(labels: Sequence[int], groups: Sequence[Hashable] | None) -> list[int]:
    """Indices of the selection slice: every tenth row, or all rows of every tenth group, or
    of the last of fewer groups; none of a single group.

    Where labels take turns in a file, every tenth row may be all that there is of a label, or
    none of it. The slice is then drawn at random from each label's rows. Rows of a rare label
    that would all be in the slice stay in train.
    """
    if groups is not None:
        names = list(dict.fromkeys(groups))
        chosen = {*(names[SELECT_EVERY - 1 :: SELECT_EVERY] or names[1:][-1:])}
        return [row for row, group in enumerate(groups) if group in chosen]
    every, held = Counter(labels), Counter(labels[SELECT_EVERY - 1 :: SELECT_EVERY])
    frequent = [label for label, count in every.items() if count >= SELECT_EVERY]
    if all(0 < held[label] < every[label] for label in frequent):
        tenth = range(SELECT_EVERY - 1, len(labels), SELECT_EVERY)
        return [row for row in tenth if held[labels[row]] < every[labels[row]]] or [*tenth]
    return stratified(labels, None, seed=0, part=1 / SELECT_EVERY)
