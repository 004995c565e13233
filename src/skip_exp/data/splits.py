"""Which rows are set apart: for validation where a task has no split for it, and for selection."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

VALIDATION = 0.2  # fraction of the rows that become the validation split
NO_GROUP = "no group of rows can be set apart that leaves every label in train"
SELECT_EVERY = 10  # train rows with index % 10 == 9 are the selection slice, as a rule


def stratified(
    labels: Sequence[int], groups: Sequence[Hashable] | None, seed: int, part: float = VALIDATION
) -> list[int]:
    """Indices of random rows, about ``part`` of each label's, in order; never all of a label's.

    Example:
        >>> stratified([0, 0, 0, 0, 1, 1, 1, 1], None, seed=1, part=0.25)
        [0, 5]

    Args:
        groups: rows of one group stay together. A group is taken where that brings the numbers of
            rows nearer to what is wanted; if none does, the one that is least too large.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(range(len(labels)) if groups is None else groups):
        members.setdefault(group, []).append(row)
    units, left = list(members.values()), Counter(labels)
    wanted = {label: part * count for label, count in left.items()}
    taken, least = list[int](), (float("inf"), list[int]())
    for unit in (units[i] for i in np.random.default_rng(seed).permutation(len(units))):
        counts = {labels[unit[0]]: 1} if len(unit) == 1 else Counter(labels[row] for row in unit)
        if any(left[label] <= count for label, count in counts.items()):
            continue  # all that is left of a label
        nearer = sum(abs(wanted[x]) - abs(wanted[x] - count) for x, count in counts.items())
        if nearer >= 0:
            taken += unit
            left.subtract(counts)
            for label, count in counts.items():
                wanted[label] -= count
        least = min(least, (-nearer, unit))
    if groups is not None and not taken:
        taken = least[1]
    return sorted(taken)


def selection(labels: Sequence[int], groups: Sequence[Hashable] | None) -> list[int]:
    """Indices of the selection slice: every tenth row, or all rows of every tenth group.

    Of fewer than ten groups it is the last, of a single one nothing. Where labels take turns in a
    file, every tenth row may be all that there is of a label, or none of it; and a group may have
    most of the rows. The slice is then drawn at random. Rows of a rare label that would all be in
    the slice stay in train, unless no label has two rows.
    """
    if groups is None:
        chosen = [*range(SELECT_EVERY - 1, len(labels), SELECT_EVERY)]
    else:
        names = list(dict.fromkeys(groups))
        last = {*(names[SELECT_EVERY - 1 :: SELECT_EVERY] or names[1:][-1:])}
        chosen = [row for row, group in enumerate(groups) if group in last]
    every, held = Counter(labels), Counter(labels[row] for row in chosen)
    frequent = [label for label, count in every.items() if count >= SELECT_EVERY]
    is_fair = all(0 < held[label] < every[label] for label in frequent)
    if groups is not None:
        is_fair = is_fair and len(chosen) <= 2 * VALIDATION * len(labels)
        is_fair = is_fair and all(held[label] < count for label, count in every.items())
        return chosen if is_fair else stratified(labels, groups, 0, 1 / SELECT_EVERY)
    if not is_fair:
        return stratified(labels, None, 0, 1 / SELECT_EVERY)
    spared = [row for row in chosen if held[labels[row]] < every[labels[row]]]
    if 2 * len(spared) >= len(chosen):
        return spared
    return _drawn(labels, len(chosen)) or chosen


def _drawn(labels: Sequence[int], count: int) -> list[int]:
    """Indices of ``count`` random rows, or fewer: of each label one row is left."""
    left, drawn = Counter(labels), list[int]()
    for row in map(int, np.random.default_rng(0).permutation(len(labels))):
        if len(drawn) < count and left[labels[row]] > 1:
            left[labels[row]] -= 1
            drawn.append(row)
    return sorted(drawn)
