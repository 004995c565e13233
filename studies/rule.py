"""``python -m studies.rule``: how often a rule of choice keeps its bound, on simulated slices.

Six models answer rows of a common difficulty, and so agree more than chance. Their true drops are
drawn anew for every slice, and known: they are measured on 20,000 further rows.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from skip_exp.within import choose
from skip_exp.within.choose import Answers, Candidate, Model

ROWS, FURTHER = (16, 80, 300, 700), 20_000
UNCUT = (0.0, "fp32")
# By ratio and form: speed over the uncut model, and mean and spread of its drop.
MODELS = {
    UNCUT: (1.0, 0.0, 0.0),
    (0.0, "int8"): (1.9, 0.0, 0.0),
    (0.52, "int8"): (3.4, 0.002, 0.006),
    (0.7, "int8"): (5.0, 0.01, 0.008),
    (0.9, "int8"): (9.0, 0.02, 0.012),
    (0.95, "int8"): (13.0, 0.035, 0.015),
}
SHARED = {0.0: 1.0, 0.52: 0.93, 0.7: 0.9, 0.9: 0.85, 0.95: 0.8}  # correlation with the difficulty


class Rule(NamedTuple):
    """How to choose.

    Attributes:
        best: drops are counted from the best model on the slice, not from the uncut one.
        fitted: share of the bound that thresholds may lose.
        errors: standard errors by which a candidate must stay within the bound.
    """

    best: bool
    fitted: float
    errors: float


RULES = {
    "none, from the best model": Rule(best=True, fitted=1.0, errors=0.0),
    "none": Rule(best=False, fitted=1.0, errors=0.0),
    "1": Rule(best=False, fitted=1.0, errors=1.0),
    "1, thresholds for half the bound": Rule(best=False, fitted=0.5, errors=1.0),
    "1.64": Rule(best=False, fitted=1.0, errors=1.64),
}


def draw(generator: np.random.Generator, rows: int) -> list[Model]:
    """The models with their answers to a slice of so many rows and to the further ones.

    Class 0 is right. A model errs where its margin is negative; its confidence is a noisy margin.
    """
    every = rows + FURTHER
    score, difficulty = generator.uniform(0.85, 0.95), generator.normal(size=every)
    margins, models = dict[float, NDArray[np.float64]](), []
    for (ratio, form), (speed, mean, spread) in MODELS.items():
        if ratio not in margins:
            own = np.sqrt(1 - SHARED[ratio] ** 2) * generator.normal(size=every)
            drop = generator.normal(mean, spread)
            margins[ratio] = norm.ppf(score - drop) + SHARED[ratio] * difficulty + own
        margin = margins[ratio]
        if form == "int8":
            margin = margin + 0.02 * generator.normal(size=every)
        noisy = np.abs(margin + 0.3 * generator.normal(size=every))
        answers = Answers((margin < 0).astype(int), 1 / (1 + np.exp(-2.2 * noisy)))
        models.append(Model(ratio, form, answers, speed))
    return models


def first_rows(model: Model, rows: int) -> Model:
    predicted, confidence = model.answers
    return replace(model, answers=Answers(predicted[:rows], confidence[:rows]))


def accuracy(predicted: NDArray[np.int64]) -> float:
    return float((predicted == 0).mean())


def choose_by(
    rule: Rule, models: list[Model], bound: float, listed: Callable[[float], list[Candidate]]
) -> Candidate:
    """The choice on a slice.

    Args:
        listed: the candidates whose thresholds keep a score.
    """
    reference = models[0]
    if rule.best:
        reference = max(models, key=lambda each: accuracy(each.answers.predicted))
    best, rows = accuracy(reference.answers.predicted), len(reference.answers.predicted)
    candidates = []
    for each in listed(best - rule.fitted * bound):
        difference = each.predicted - reference.answers.predicted
        error = max(difference.std() / np.sqrt(rows), 1 / rows)
        if len(each.models) == 1 and each.models[0].ratio == reference.ratio:
            error = 0.0
        candidates.append(replace(each, error=rule.errors * error))
    return choose.choose(candidates, best - bound)


def simulate(rows: int, slices: int, bound: float) -> pd.DataFrame:
    """A row per slice and rule: true drop from the uncut model in points, and speed over it."""
    generator, found = np.random.default_rng(rows), []
    for _ in range(slices):
        whole = draw(generator, rows)
        models = [first_rows(model, rows) for model in whole]
        further = dict(zip(models, whole, strict=True))
        known: dict[float, list[Candidate]] = {}

        def listed(least: float, models=models, known=known) -> list[Candidate]:  # type: ignore[no-untyped-def]
            if least not in known:
                known[least] = choose.list_candidates(models, accuracy, least)
            return known[least]

        uncut = accuracy(whole[0].answers.predicted[rows:])
        for name, rule in RULES.items():
            chosen = choose_by(rule, models, bound, listed)
            answers, shares = choose.join(
                [further[model].answers for model in chosen.models], chosen.thresholds
            )
            speed = choose.estimate_speed([model.speed for model in chosen.models], shares)
            drop = 100 * (uncut - accuracy(answers.predicted[rows:]))
            found.append({"rule": name, "drop": drop, "speed": speed})
    return pd.DataFrame(found).assign(rows=rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.rule", description=__doc__)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--bound", type=float, default=1.0, help="points")
    parser.add_argument("--out", type=Path, default=Path("studies/results/rule.csv"))
    options = parser.parse_args()
    choose.MOST_THRESHOLDS, choose.MIDDLE_THRESHOLDS = 60, 3  # else a slice takes a second
    tables = []
    for rows in ROWS:
        found = simulate(rows, options.slices, options.bound / 100)
        found["beyond"] = 100 * (found["drop"] > options.bound + 1)
        groups = found.groupby(["rows", "rule"], sort=False)
        table = groups.agg(drop=("drop", "mean"), worst=("drop", "max"), beyond=("beyond", "mean"))
        table["speed"] = groups["speed"].median()
        tables.append(table.reset_index())
        print(table.round(2), flush=True)
    pd.concat(tables).to_csv(options.out, index=False, float_format="%.2f")
    return 0


if __name__ == "__main__":
    sys.exit(main())
