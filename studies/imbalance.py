"""``python -m studies.imbalance``: one rare row in fifty; do weights or another threshold help?

The seed draws 1,000 rows of one class of a task and 20 of the other. Jobs with and without balanced
weights are scored at several thresholds of the rare class's log-odds, on rows that were not drawn
and on validation, weighted 50:1, too. Rows are read from the folder in ``SKIP_EXP_DATA``.
"""

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skip_exp
from skip_exp.data.splits import choose_slice
from skip_exp.utils.machine import git_commit

RESULTS = Path(__file__).parent / "results" / "imbalance.csv"
TASKS, COLUMN, RARE = ("sst2", "cr"), "sentence", 0  # the rare class is their first
COLUMNS = ("task", "seed", "recipe", "class_weight", "threshold", "others", "validation", "commit")
OTHERS, TIMES, SEEDS = 1000, 50, (1, 2, 3)
RUNS = [*product(("default", "prompt"), ("none", "balanced"))]  # recipe, class weights


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.imbalance", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/imbalance"), help="of jobs")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--rows", type=Path, default=RESULTS, help="file of the rows")
    asked, rows = parser.parse_args(), list[list[Any]]()
    for task, seed, (recipe, weights) in product(asked.tasks, SEEDS, RUNS):
        name = f"{task}-{seed}-{recipe}-{weights}"
        answers = asked.out / f"{name}.npz"
        if not answers.is_file():
            found = run(task, seed, recipe, weights, asked.out / name)
            np.savez(answers, commit=str(git_commit()), **found)
        with np.load(answers) as saved:
            scores, commit = score(dict(saved)), str(saved["commit"])
        rows += [[task, seed, recipe, weights, *row, commit] for row in scores]
        pd.DataFrame(rows, columns=COLUMNS).to_csv(asked.rows, index=False, lineterminator="\n")


def read(task: str, split: str, seed: int) -> list[dict[str, Any]]:
    """Rows in random order, with label 1 for the rare class; of equal texts the first."""
    path = Path(os.environ["SKIP_EXP_DATA"]) / task / f"{split}.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[str, int] = {}
    for index in np.random.default_rng(seed).permutation(len(lines)):
        found.setdefault(lines[index][COLUMN], int(lines[index]["label"] == RARE))
    return [{"text": text, "label": label} for text, label in found.items()]


def run(task: str, seed: int, recipe: str, weights: str, out: Path) -> dict[str, Any]:
    """Calibrated log-odds of the rare class, and labels, by part of the rows."""
    every, validation = read(task, "train", seed), read(task, "validation", seed)
    others, rare = ([row for row in every if row["label"] == label] for label in (0, 1))
    train = others[:OTHERS] + rare[: OTHERS // TIMES]
    train = [train[i] for i in np.random.default_rng(seed).permutation(len(train))]
    overrides = [f"seed={seed}", "trainer.accelerator=cpu", "benchmark.enabled=false"]
    overrides += [f"experiment={recipe}", f"tune.class_weight={weights}"]
    model = skip_exp.fit(
        train,
        validation=validation[:100],
        classes=["0", "1"],
        name=task,
        output=out,
        overrides=overrides,
    )
    chosen = choose_slice([row["label"] for row in train], [row["text"] for row in train])
    dev = others[OTHERS : OTHERS + 400] + rare[OTHERS // TIMES :][:400]
    found: dict[str, Any] = {}
    for name, part in (("slice", [train[i] for i in chosen]), ("dev", dev), ("val", validation)):
        odds = np.array(model.probabilities([[row["text"]] for row in part]))
        found[f"{name}_z"] = np.log(odds[:, 1] / odds[:, 0])
        found[f"{name}_y"] = np.array([row["label"] for row in part])
    return found


def score(found: dict[str, Any]) -> list[list[Any]]:
    """Every threshold, with F1 macro in percent on rows that were not drawn and on validation."""
    own = np.unique(found["slice_z"])
    at = {"0": 0.0, "a quarter of the log-prior": -0.25 * np.log(TIMES)}
    at["best on the slice"] = best((own[1:] + own[:-1]) / 2, found, "slice")
    at["best on the other rows"] = best(np.unique(found["dev_z"]), found, "dev")
    parts = ("dev", "val")
    return [[name, *(f1_macro(found, part, each) for part in parts)] for name, each in at.items()]


def best(thresholds: Any, found: dict[str, Any], part: str) -> float:
    scores = [f1_macro(found, part, each) for each in thresholds]
    equals = np.flatnonzero(np.array(scores) == max(scores))
    return float(thresholds[equals[len(equals) // 2]])  # the middle one


def f1_macro(found: dict[str, Any], part: str, threshold: float) -> float:
    said, labels = found[f"{part}_z"] > threshold, found[f"{part}_y"]
    counts = np.where(labels == 1, (labels == 0).sum() / TIMES / (labels == 1).sum(), 1.0)
    f1 = []
    for label in (0, 1):
        both = counts[(said == label) & (labels == label)].sum()
        f1.append(2 * both / (counts[said == label].sum() + counts[labels == label].sum()))
    return round(50 * sum(f1), 2)


if __name__ == "__main__":
    main()
