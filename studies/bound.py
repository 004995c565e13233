"""``python -m studies.bound``: does a choice by ``--within`` lose more than its bound?

    python -m studies.bound outputs/evidence --rows outputs/bound.csv
    python -m studies.bound --rows studies/results/promise.csv

Of finished jobs, without a model: the validation rows of a task and a seed stand for all rows. A
random part of them is the selection slice, by which the rule of ``--within`` chooses among the
uncut model and its cuts; the rest tells what the choice loses. A row has the draws of one task,
seed, number of train rows (0: all), size of the slice and bound.

Without folders: simulated answers of two models. Rows are independent; the cut loses some right
answers and gains others at fixed rates, all rows alike. The true loss is known: ``kept``
counts the slices whose printed limit holds, in percent.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skip_exp import results
from skip_exp.outcomes.scores import Labels
from skip_exp.results import PREDICTIONS, Result
from skip_exp.utils.machine import git_commit
from skip_exp.within.choose import Candidate, Cut, Split, choose, judge, limit_loss
from studies.frontier import read_times

SLICES = (40, 80, 160, 320)  # rows
BOUNDS = (0.5, 1.0, 2.0)  # points
DRAWS = 100
UNCUT = Cut(0.0)
# Of the simulation.
SIZES = (75, 150, 300, 500, 800)  # rows of a slice
LOSSES = (0.0, 1.0, 2.0, 3.0, 5.0)  # points of accuracy
CHANGED = (2.0, 5.0, 10.0, 15.0)  # rows of 100 that one of both models alone answers rightly
RESAMPLED = ((1.0, 5.0), (3.0, 5.0), (3.0, 10.0))  # of both, for metrics besides accuracy
RIGHT = 0.85  # of the uncut model's answers
POSITIVE = 0.2  # of the labels
CUTS = {0.9: (3.0, 8.0), 0.7: (1.0, 4.0), 0.52: (0.3, 2.0)}  # loss and changed rows of 100
ALLOWED = (1.0, 2.0, 3.0, 5.0)  # points
MANY = 10**6  # rows, on which a loss is nearly the true one


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.bound", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="none: simulated answers")
    parser.add_argument("--rows", type=Path, required=True)
    asked = parser.parse_args()
    rows = measure_jobs(asked.folders) if asked.folders else [*simulate(), *simulate_choices()]
    found = pd.DataFrame(rows).assign(commit=git_commit())
    found.round(3).to_csv(asked.rows, index=False, lineterminator="\n")
    return 0


def measure_jobs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of every task and seed of finished jobs that have several cuts."""
    models: dict[tuple[str, int, int], dict[Cut, Result]] = {}
    for job in results.load(folders):
        cut = Cut(job.ratio or 0.0, job.config["prune"].get("layers"))
        if job.status == "done" and cut in read_speeds():
            pair = (str(job.task), job.seed or 0, job.train_rows or 0)
            models.setdefault(pair, {})[cut] = job
    rows = []
    for (task, seed, train), jobs in sorted(models.items()):
        if len({*jobs, UNCUT}) > 2:  # there is something to choose
            rows += [{"task": task, "seed": seed, "train": train} | row for row in measure(jobs)]
    return rows


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


def simulate() -> list[dict[str, Any]]:
    """How often the limit of one cut's loss is the true loss or more."""
    generator = np.random.default_rng(0)
    rows = []
    for metric, loss, changed in product(("accuracy", "f1_macro", "matthews"), LOSSES, CHANGED):
        if changed >= loss and (metric == "accuracy" or (loss, changed) in RESAMPLED):
            true, uncut, (cut,) = draw_answers(generator, MANY, [(loss, changed)])
            many = Split([], true, metric, 2)
            loses = many.score(uncut) - many.score(cut)
            draws, sizes = 200, SIZES[:4:2]  # every slice is resampled
            if metric == "accuracy":
                loses = loss / 100  # not less a chance
                draws, sizes = 2000, SIZES
            for size in sizes:
                limits = []
                for _ in range(draws):
                    true, uncut, (cut,) = draw_answers(generator, size, [(loss, changed)])
                    limits.append(limit_loss(uncut, cut, Split([], true, metric, 2)))
                row = {"metric": metric, "slice": size, "models": 2, "changed": changed}
                row |= {"loss": 100 * loses, "slices": draws}
                row |= {"kept": 100 * np.mean(np.array(limits) >= loses - 1e-9)}
                rows.append(row | {"limit": 100 * np.median(limits)})
    return rows


def simulate_choices(draws: int = 2000) -> list[dict[str, Any]]:
    """How often the limit that is printed of a choice among CUTS holds; uncut, it does."""
    generator = np.random.default_rng(0)
    losses = {Cut(ratio): loss / 100 for ratio, (loss, _) in CUTS.items()} | {UNCUT: 0.0}
    models = [(UNCUT, "fp32"), *((Cut(ratio), "int8") for ratio in CUTS)]
    rows = []
    for size, bound in product(SIZES, ALLOWED):
        choices: list[Candidate] = []
        for _ in range(draws):
            true, uncut, cuts = draw_answers(generator, size, [*CUTS.values()])
            judged = judge(models, [uncut, *cuts], Split([], true, "accuracy", 2))
            timed = [replace(each, speed=1 / (1 - each.cut.ratio)) for each in judged]
            choices.append(choose(timed, bound / 100))
        kept = [each.limit >= losses[each.cut] for each in choices]
        row = {"metric": "accuracy", "slice": size, "models": len(models), "bound": bound}
        row |= {"slices": draws, "kept": 100 * np.mean(kept)}
        row["above"] = 100 * np.mean([100 * losses[each.cut] > bound for each in choices])
        rows.append(row | {"cut": 100 * np.mean([each.cut.ratio > 0 for each in choices])})
    return rows


@cache
def read_speeds() -> dict[Cut, float]:
    """Texts a second of a model in 8 bits, one text at a time on the Xeon, by its cut."""
    ms = read_times()["Xeon"]
    cuts = [UNCUT, Cut(0.7), Cut(0.9), Cut(0.9, 3)]
    return {cut: 1000 / ms[str(cut)] for cut in cuts}


def measure(jobs: dict[Cut, Result]) -> list[dict[str, Any]]:
    """How often the loss of a choice is above the bound, and above twice the bound."""
    answers = {cut: read_answers(job) for cut, job in jobs.items()}
    job, table = next((jobs[cut], each) for cut, each in answers.items() if "dense" in each)
    predictions = {UNCUT: table["dense"].to_numpy()}
    predictions |= {cut: each["predicted"].to_numpy() for cut, each in answers.items()}
    metric, classes = str(job.metric.name), len(job.config["task"]["labels"])
    cuts, true = [*predictions], table["label"].to_numpy()
    draw, rows = np.random.default_rng(0), []
    for size in SLICES:
        losses: dict[float, list[tuple[float, float]]] = {bound: [] for bound in BOUNDS}
        for _ in range(DRAWS):
            order = draw.permutation(len(true))
            select, rest = (
                Split([], true[part], metric, classes) for part in (order[:size], order[size:])
            )
            seen = [predictions[cut][order[:size]] for cut in cuts]
            scores = [rest.score(predictions[cut][order[size:]]) for cut in cuts]
            for bound, (chosen, speed) in choose_by_bounds(cuts, seen, select).items():
                losses[bound].append((100 * (scores[0] - scores[chosen]), speed))
        for bound, of_bound in losses.items():
            loss, speed = np.array(of_bound).T
            row = {"slice": size, "bound": bound, "models": len(cuts)}
            row |= {"above": 100 * (loss > bound).mean(), "twice": 100 * (loss > 2 * bound).mean()}
            rows.append(row | {"loss": loss.mean(), "times": speed.mean()})
    return rows


def choose_by_bounds(
    cuts: Sequence[Cut], predictions: Sequence[Any], select: Split
) -> dict[float, tuple[int, float]]:
    """By bound: the index of the chosen cut, and how many times as fast it is."""
    judged, speeds = judge([(cut, "int8") for cut in cuts], predictions, select), read_speeds()
    candidates = [replace(each, speed=speeds[each.cut]) for each in judged]
    found = {}
    for bound in BOUNDS:
        chosen = choose(candidates, bound / 100)
        found[bound] = candidates.index(chosen), chosen.speed / candidates[0].speed
    return found


def read_answers(job: Result) -> pd.DataFrame:
    return pd.read_csv(Path(str(job.path)).parent / PREDICTIONS)


if __name__ == "__main__":
    sys.exit(main())
