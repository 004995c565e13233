"""``python -m studies.bound``: how often does a choice by ``--within`` keep its promise?

    python -m studies.bound --rows studies/results/bound.csv

Simulated answers of an uncut model and its cuts. Rows are independent. A cut loses some right
answers and gains others at fixed rates, all rows alike, so that its true loss is known. A row of
the file has the slices of one size:

- ``holds``: the limit of the loss is the true loss or more, in percent of the slices; of a choice
  the limit of the chosen model, and that of the uncut one always holds;
- ``above``: the chosen model loses more than the bound;
- ``cut``: the chosen model is a cut.

``level`` is that of one cut's limit. ``cuts`` says what they truly lose: ``one``; four that
``vary``, as usual cuts do; four that all lose a little ``beyond`` the bound, the worst case.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from skip_exp.outcomes.scores import Labels
from skip_exp.utils.machine import git_commit
from skip_exp.within import choose as rule
from skip_exp.within.choose import Cut, Split, choose, judge, limit_loss

SIZES = (75, 150, 300, 500, 800)  # rows of a slice
DRAWS = 2000  # slices
RIGHT = 0.85  # of the uncut model's answers
POSITIVE = 0.2  # of the labels
# Of one cut: points of accuracy, and rows of 100 that one of both models alone answers rightly.
LOSSES = (0.0, 1.0, 2.0, 3.0, 5.0)
CHANGED = (2.0, 5.0, 10.0, 15.0)
# The same of both for other metrics, whose slices are fewer, since each is resampled.
RESAMPLED = ((1.0, 5.0), (3.0, 5.0), (3.0, 10.0))
RESAMPLED_SIZES = (75, 300)
RESAMPLED_DRAWS = 500
MANY = 10**6  # rows, on which a loss is nearly the true one
# Of a choice: what every cut loses, and its changed rows.
VARY = {0.52: (0.3, 2.0), 0.7: (1.0, 4.0), 0.8: (2.0, 6.0), 0.9: (3.0, 8.0)}
BEYOND = 0.01  # points
BOUNDS = (1.0, 2.0, 3.0, 5.0)  # points
LEVELS = (rule.LOSS_LEVEL, 1 - (1 - rule.LOSS_LEVEL) / len(VARY))  # as it is, split over the cuts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.bound", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    asked = parser.parse_args()
    rows = [*simulate_limits(), *simulate_choices()]
    found = pd.DataFrame(rows).assign(commit=git_commit())
    found.round(3).to_csv(asked.rows, index=False, lineterminator="\n")
    return 0


def draw_answers(
    generator: np.random.Generator, rows: int, changes: Sequence[tuple[float, float]]
) -> tuple[Labels, Labels, list[Labels]]:
    """Labels, the uncut model's answers and those of cuts.

    Args:
        changes: of every cut: its loss of accuracy and its changed rows, both of 100.
    """
    true = (generator.random(rows) < POSITIVE).astype(np.int64)
    is_right = generator.random(rows) < RIGHT
    uncut = np.where(is_right, true, 1 - true)
    cuts = []
    for loss, changed in changes:
        lost = (changed + loss) / 200 / RIGHT
        gained = (changed - loss) / 200 / (1 - RIGHT)
        is_changed = generator.random(rows) < np.where(is_right, lost, gained)
        cuts.append(np.where(is_changed, 1 - uncut, uncut))
    return true, uncut, cuts


def simulate_limits() -> list[dict[str, Any]]:
    """How often the limit of one cut's loss is the true loss or more."""
    generator = np.random.default_rng(0)
    rows = []
    for loss, changed in product(LOSSES, CHANGED):
        if changed >= loss:
            for size in SIZES:
                rows.append(count_limits(generator, "accuracy", (loss, changed), size, DRAWS))
    for metric, change in product(("f1_macro", "matthews"), RESAMPLED):
        for size in RESAMPLED_SIZES:
            rows.append(count_limits(generator, metric, change, size, RESAMPLED_DRAWS))
    return rows


def count_limits(
    generator: np.random.Generator, metric: str, change: tuple[float, float], size: int, draws: int
) -> dict[str, Any]:
    """A row of the file: the limits of one cut on slices of one size."""
    loss = change[0] / 100
    if metric != "accuracy":
        true, uncut, (cut,) = draw_answers(generator, MANY, [change])
        many = Split([], true, metric, 2)
        loss = many.score(uncut) - many.score(cut)
    limits = []
    for _ in range(draws):
        true, uncut, (cut,) = draw_answers(generator, size, [change])
        limits.append(limit_loss(uncut, cut, Split([], true, metric, 2)))
    return {
        "metric": metric,
        "slice": size,
        "cuts": "one",
        "level": rule.LOSS_LEVEL,
        "changed": change[1],
        "loss": 100 * loss,
        "slices": draws,
        "holds": 100 * np.mean(np.array(limits) >= loss - rule.ROUNDING),
        "limit": 100 * np.median(limits),
    }


def simulate_choices() -> list[dict[str, Any]]:
    """How often the limit of a chosen model holds, and how often it keeps the bound."""
    rows = []
    for level, size, bound in product(LEVELS, SIZES, BOUNDS):
        beyond = bound + BEYOND, max(bound + BEYOND, 6.0)
        with mock.patch.object(rule, "LOSS_LEVEL", level):
            for cuts, changes in (("vary", VARY), ("beyond", dict.fromkeys(VARY, beyond))):
                row = {"metric": "accuracy", "slice": size, "cuts": cuts, "level": level}
                rows.append(row | count_choices(changes, size, bound))
    return rows


def count_choices(
    changes: dict[float, tuple[float, float]], size: int, bound: float
) -> dict[str, Any]:
    """Fields of a row of the file: choices by slices of one size.

    Args:
        changes: by ratio, see :func:`draw_answers`.
    """
    generator = np.random.default_rng(0)
    losses = {0.0: 0.0} | {ratio: loss for ratio, (loss, _) in changes.items()}
    models = [(Cut(ratio), rule.REFERENCE) for ratio in losses]
    holds = []
    above = []
    ratios = []
    for _ in range(DRAWS):
        true, uncut, cuts = draw_answers(generator, size, [*changes.values()])
        judged = judge(models, [uncut, *cuts], Split([], true, "accuracy", 2))
        timed = [replace(model, speed=1 / (1 - model.cut.ratio)) for model in judged]
        chosen = choose(timed, bound / 100)
        loss = losses[chosen.cut.ratio]
        holds.append(chosen.limit >= loss / 100 - rule.ROUNDING)
        above.append(loss > bound)
        ratios.append(chosen.cut.ratio)
    return {
        "slices": DRAWS,
        "bound": bound,
        "holds": 100 * np.mean(holds),
        "above": 100 * np.mean(above),
        "cut": 100 * np.mean(np.array(ratios) > 0),
    }


if __name__ == "__main__":
    sys.exit(main())
