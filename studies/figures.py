"""``python -m studies.figures``: docs/scores.png from results/skip.csv and results/strong.csv.

Accuracy against the fraction that is cut, means over seeds. Bars are standard errors over the
validation rows.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from studies.evidence import RESULTS, TITLES

ROWS = {"sst2": 872, "banking77": 3080, "cr": 775}  # of each validation split
LINES = (  # recipe, task, mark, colour, and how far the label is moved
    ("strong", "cr", "s", "#0b6e4f", -0.9),
    ("skip", "banking77", "o", "#3d5a80", 0.9),
    ("skip", "cr", "o", "#b5532d", 0.0),
    ("skip", "sst2", "o", "#7a4e9c", 0.0),
)


def read_scores(rows: pd.DataFrame, task: str) -> "pd.Series[float]":
    """Mean accuracy by the fraction that is cut, 0 included, over the seeds of a task."""
    part = rows[rows["task"] == task]
    dense = part.groupby("seed")["metric/dense"].first().mean()
    return pd.concat([pd.Series({0.0: dense}), part.groupby("ratio")["metric/final"].mean()])


def draw() -> Figure:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="attention and feed-forward weights cut, %")
    axes.set_title("accuracy on validation, %", loc="left", fontsize=12)
    for recipe, task, mark, colour, moved in LINES:
        scores = read_scores(pd.read_csv(RESULTS / f"{recipe}.csv"), task)
        errors = (scores * (100 - scores) / ROWS[task]) ** 0.5
        axes.errorbar(100 * scores.index, scores, errors, fmt=f"{mark}-", color=colour, lw=2)
        name, last = f"{recipe}, {TITLES[task]}", scores.iloc[-1]
        axes.annotate(name, (93, last + moved), color=colour, va="center", fontsize=12)
    axes.set_xlim(-3, 148)
    axes.set_xticks([0, 52, 70, 90])
    axes.set_yticks([75, 80, 85, 90, 95])
    axes.tick_params(labelsize=12)
    axes.xaxis.label.set_fontsize(12)
    axes.xaxis.label.set_x(0.31)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).parents[1] / "docs/scores.png", dpi=150)
