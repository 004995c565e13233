"""``python -m studies.multilabel``: several labels per text, beside logistic regression.

Rows are GoEmotions (Demszky et al. 2020; 28 emotions), from the folder in ``SKIP_EXP_DATA``: 2,000
train rows in all, drawn by the seed, every tenth of them the selection slice. One against the rest,
logistic regression reads the mean of the frozen backbone's hidden states. The slice chooses its C
and, for every model alike, the threshold above which a label is given. A job per ratio gives the
pruned models, their dense one is the same. ``--table`` prints the table of docs/results.md.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skip_exp.config.names import MULTILABEL_METRICS
from skip_exp.data.splits import choose_slice
from skip_exp.report.tables import pipe_rows
from skip_exp.utils.machine import git_commit
from studies.curve import Rows, drawn, embedded
from studies.summary import spread

RESULTS = Path(__file__).parent / "results" / "multilabel.csv"
TASK, ROWS, SEEDS, RATIOS = "goemotions", 2000, (1, 2), (0.52, 0.9)
STRENGTHS = (1.0, 0.1, 10.0)  # C; the first of equals is taken
LOGISTIC, DENSE = "logistic regression", "dense"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.multilabel", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/multilabel"), help="of jobs")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="file of the rows")
    parser.add_argument("--table", action="store_true", help="print the table, run nothing")
    asked = parser.parse_args()
    if asked.table:
        print(pipe_rows(table(pd.read_csv(asked.csv))))
        return
    commit = git_commit()
    if commit is None or commit.endswith("-dirty"):
        parser.error("a run needs a clean work tree: its rows name the commit")
    rows: Rows = []
    for seed in SEEDS:
        for row in run(seed, asked.out):
            rows.append({"seed": seed, **row, "commit": commit})
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(asked.csv, index=False, lineterminator="\n")


def run(seed: int, out: Path) -> Iterator[dict[str, Any]]:
    """Model, setting and scores in percent, of every model of a seed."""
    path = Path(os.environ["SKIP_EXP_DATA"]) / TASK
    names = json.loads((path / "labels.json").read_text())
    train, validation = drawn(TASK, "train", ROWS, seed), drawn(TASK, "validation", 10**6, 0)
    import skip_exp

    for ratio in RATIOS:
        result = skip_exp.fit(
            train,
            label="labels",
            classes=names,
            validation=validation,
            ratio=ratio,
            name=TASK,
            output=out,
            overrides=[f"seed={seed}", "trainer.accelerator=cpu", "benchmark.enabled=false"],
        ).result
        states = {f"{100 * ratio:.0f} % removed": "final"}
        if ratio == RATIOS[0]:
            states = {DENSE: "dense"} | states
        for model, state in states.items():
            scores = {name: result["metrics"][name][state] for name in MULTILABEL_METRICS}
            yield {"model": model, "setting": f"job={result['job_id']}"} | in_percent(scores)
    yield logistic(names, train, validation)


def in_percent(scores: dict[str, Any]) -> dict[str, float]:
    return {name: round(100 * float(score), 2) for name, score in scores.items()}


def logistic(names: list[str], train: Rows, validation: Rows) -> dict[str, Any]:
    """The row of logistic regression."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    from skip_exp.config.task import TaskConfig
    from skip_exp.data.metrics import build_metrics, find_bound

    task = TaskConfig(
        name=TASK, text=["text"], labels=names, metrics=[*MULTILABEL_METRICS], multilabel=True
    )
    y, held = (
        np.array([[int(n in row["labels"]) for n in names] for row in part])
        for part in (train, validation)
    )
    texts = [row["text"] for row in train]
    x = embedded(texts)
    chosen = np.isin(np.arange(len(y)), choose_slice([*map(tuple, y.tolist())], texts))

    def fitted(strength: float, part: Any) -> Any:
        one = LogisticRegression(C=strength, max_iter=2000)
        return OneVsRestClassifier(one).fit(x[part], y[part])

    def scored(logits: Any, labels: Any, bound: float | None = None) -> dict[str, Any]:
        return build_metrics(task, bound)(torch.tensor(logits), torch.tensor(labels))

    of_slice = {c: fitted(c, ~chosen).decision_function(x[chosen]) for c in STRENGTHS}
    found = {c: float(scored(of_slice[c], y[chosen])["f1_micro"]) for c in STRENGTHS}
    best = max(found, key=found.__getitem__)
    bound = find_bound(torch.tensor(of_slice[best]), torch.tensor(y[chosen]))
    logits = fitted(best, chosen | True).decision_function(
        embedded([r["text"] for r in validation])
    )
    scores = in_percent(scored(logits, held, bound))
    return {"model": LOGISTIC, "setting": f"C={best:g}"} | scores


def table(frame: pd.DataFrame) -> list[list[str]]:
    """Mean ± standard deviation over the seeds."""
    rows = [["model", "F1 micro", "F1 macro", "average precision"], ["---"] * 4]
    for model in (LOGISTIC, DENSE, *(f"{100 * ratio:.0f} % removed" for ratio in RATIOS)):
        part = frame[frame["model"] == model]
        rows.append([model, *(spread(part[name]) for name in MULTILABEL_METRICS)])
    return rows


if __name__ == "__main__":
    main()
