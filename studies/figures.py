"""``python -m studies.figures``: docs/scores.png and README's table, from the rows of both recipes.

The picture has accuracy against the fraction that is cut, means over seeds. Bars are standard
errors over the validation rows.
"""

from itertools import product
from pathlib import Path
from statistics import fmean

import pandas as pd
from matplotlib.figure import Figure

from skip_exp.report.tables import pipe_rows
from skip_exp.within.choose import Cut
from studies.evidence import RESULTS, TITLES, signed
from studies.frontier import read_times

ROWS = {"sst2": 872, "banking77": 3080, "cr": 775}  # of each validation split
COLOURS = {"banking77": "#3d5a80", "cr": "#b5532d", "sst2": "#7a4e9c"}
CUTS = (0.52, 0.7, 0.9)
MEANS = {  # of README's table: tasks with more than one seed
    "prompt": ("sst2", "cola", "mrpc", "banking77", "cr"),
    "strong": ("sst2", "cola", "banking77", "cr"),
}
NAMES = {"prompt": "`skip` without gates", "strong": "`strong`"}
STYLES = {"strong": "s-", "prompt": "o--"}
MOVED = {("strong", "cr"): -0.9, ("prompt", "banking77"): 0.9}  # labels that would touch


def table() -> list[list[str]]:
    """A line per recipe: its mean score over tasks, what cuts change; then ms by processor."""
    lines = [["", "uncut", *(f"{100 * cut:.0f} % cut" for cut in CUTS)], ["---"] * 5]
    for recipe, tasks in MEANS.items():
        rows = pd.read_csv(RESULTS / f"{recipe}.csv").query("backbone == 'minilm'")
        dense = fmean(read_scores(rows, task)[0.0] for task in tasks)
        rows = rows.assign(change=rows["metric/final"] - rows["metric/dense"])
        changes = rows.pivot_table("change", "task", "ratio").loc[[*tasks]].mean()
        cells = [f"{dense:.1f}", *(signed(changes[cut]) for cut in CUTS)]
        lines.append([f"{NAMES[recipe]}, mean of {len(tasks)} tasks", *cells])
    times = read_times().loc[["uncut", *(str(Cut(cut)) for cut in CUTS)]]
    ms = [" / ".join(map("{:.1f}".format, each)) for each in times.to_numpy()]
    return [*lines, [f"8 bits, ms a text, {' / '.join(times)}", *ms]]


def read_scores(rows: pd.DataFrame, task: str) -> "pd.Series[float]":
    """Mean score by the fraction that is cut, 0 included, over the seeds of a task."""
    part = rows[(rows["task"] == task) & rows["ratio"].isin(CUTS)]
    dense = part.groupby("seed")["metric/dense"].first().mean()
    return pd.concat([pd.Series({0.0: dense}), part.groupby("ratio")["metric/final"].mean()])


def draw() -> Figure:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="attention and feed-forward weights cut, %")
    axes.set_title("accuracy on validation, % (skip without gates)", loc="left", fontsize=12)
    for (recipe, style), (task, colour) in product(STYLES.items(), COLOURS.items()):
        scores = read_scores(pd.read_csv(RESULTS / f"{recipe}.csv"), task)
        errors = (scores * (100 - scores) / ROWS[task]) ** 0.5
        axes.errorbar(100 * scores.index, scores, errors, fmt=style, color=colour, lw=2)
        name, last = f"{recipe}, {TITLES[task]}", scores.iloc[-1]
        moved = MOVED.get((recipe, task), 0.0)
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
    print(pipe_rows(table()))
    draw().savefig(Path(__file__).parents[1] / "docs/scores.png", dpi=150)
