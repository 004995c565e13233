"""``python -m studies.bound``: does a choice by ``--within`` lose more than its bound?

    python -m studies.bound outputs/evidence --rows studies/results/bound.csv

Of finished jobs, without a model: the validation rows of a task and a seed stand for all rows. A
random part of them is the selection slice, by which the rule of ``--within`` chooses among the
uncut model and its cuts; the rest tells what the choice loses. A row has the draws of one task,
seed, number of train rows (0: all), size of the slice, bound and margin, the standard errors that
a loss may be larger.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skip_exp import results
from skip_exp.results import PREDICTIONS, Result
from skip_exp.utils.machine import git_commit
from skip_exp.within.choose import MARGIN, Cut, Split, choose, judge
from studies.frontier import read_times

SLICES = (40, 80, 160, 320)  # rows
RULES = [(bound, margin) for bound in (0.5, 1.0, 2.0) for margin in (1.0, MARGIN)]  # bound: points
DRAWS = 100
UNCUT = Cut(0.0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.bound", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    asked = parser.parse_args()
    models: dict[tuple[str, int, int], dict[Cut, Result]] = {}
    for job in results.load(asked.folders):
        cut = Cut(job.ratio or 0.0, job.config["prune"].get("layers"))
        if job.status == "done" and cut in read_speeds():
            pair = (str(job.task), job.seed or 0, job.train_rows or 0)
            models.setdefault(pair, {})[cut] = job
    rows = []
    for (task, seed, train), jobs in sorted(models.items()):
        if len({*jobs, UNCUT}) > 2:  # there is something to choose
            rows += [{"task": task, "seed": seed, "train": train} | row for row in measure(jobs)]
    found = pd.DataFrame(rows).assign(commit=git_commit())
    found.round(3).to_csv(asked.rows, index=False, lineterminator="\n")
    return 0


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
        losses: dict[tuple[float, float], list[tuple[float, float]]] = {rule: [] for rule in RULES}
        for _ in range(DRAWS):
            order = draw.permutation(len(true))
            select, rest = (
                Split([], true[part], metric, classes) for part in (order[:size], order[size:])
            )
            seen = [predictions[cut][order[:size]] for cut in cuts]
            scores = [rest.score(predictions[cut][order[size:]]) for cut in cuts]
            for rule, (chosen, speed) in choose_by_rules(cuts, seen, select).items():
                losses[rule].append((100 * (scores[0] - scores[chosen]), speed))
        for (bound, margin), of_rule in losses.items():
            loss, speed = np.array(of_rule).T
            row = {"slice": size, "bound": bound, "margin": margin, "models": len(cuts)}
            row |= {"above": 100 * (loss > bound).mean(), "twice": 100 * (loss > 2 * bound).mean()}
            rows.append(row | {"loss": loss.mean(), "times": speed.mean()})
    return rows


def choose_by_rules(
    cuts: Sequence[Cut], predictions: Sequence[Any], select: Split
) -> dict[tuple[float, float], tuple[int, float]]:
    """By bound and margin: the index of the chosen cut, and how many times as fast it is."""
    judged, speeds = judge([(cut, "int8") for cut in cuts], predictions, select), read_speeds()
    found = {}
    for bound, margin in RULES:
        candidates = []
        for each in judged:
            wide = each.error * margin / MARGIN  # `choose` multiplies by it
            candidates.append(replace(each, error=wide, speed=speeds[each.cut]))
        chosen = choose(candidates, candidates[0].select - bound / 100)
        found[bound, margin] = candidates.index(chosen), chosen.speed / candidates[0].speed
    return found


def read_answers(job: Result) -> pd.DataFrame:
    return pd.read_csv(Path(str(job.path)).parent / PREDICTIONS)


if __name__ == "__main__":
    sys.exit(main())
