"""The figures of studies/anatomy.md, from the tables in results/anatomy.

They are of one backbone. One shade per quantity, from white at nothing; lines differ in their
marks, too.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from skip_exp.report.figures import INK, PLOT_SETTINGS, Style, add, styles
from studies.evidence import TITLES

ROOT = Path(__file__).resolve().parents[2]
TABLES, OUT = ROOT / "studies/results/anatomy", ROOT / "studies/pictures"
RATIO = 0.9
KINDS = {"encoder.ffn": "feed-forward neurons", "encoder.self.heads": "heads"}
METHODS = {"activation_gradient": "activation x gradient"}
STATES = {"dense": "control", "pruned": "c1", "final": "c0"}
PANELS = 2  # a row


def draw() -> None:
    """Write every figure."""
    mpl.rcParams.update({**PLOT_SETTINGS, "font.size": 12})
    OUT.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        picture(pd.read_csv(TABLES / f"{name}.csv")).savefig(OUT / f"{name}.png", dpi=130)


# --- numbers ------------------------------------------------------------------------------------


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """The area between the curves of both orders, least minus most relevant first, as ``area``.

    A choice that says nothing has 0. The area is divided by the width of the curves, so it is in
    units of the score.
    """
    keys = ["task", "backbone", "seed", "by"]
    rows = []
    for names, group in curves.groupby(keys, sort=False):
        area = {}
        for first, part in group.groupby("first"):
            part = part.sort_values("removed")
            width = part["removed"].max() - part["removed"].min()
            area[first] = float(np.trapezoid(part["score"], part["removed"])) / width
        rows.append(dict(zip(keys, names, strict=True)) | {"area": area["least"] - area["most"]})
    return pd.DataFrame(rows)


def average(table: pd.DataFrame, x: pd.Series) -> pd.DataFrame:
    """x, y and std: mean and deviation of the score over seeds, in percent."""
    grouped = (100 * table["score"]).groupby(x)
    found = pd.DataFrame({"y": grouped.mean(), "std": grouped.std()})
    return found.rename_axis("x").reset_index()


# --- drawing ------------------------------------------------------------------------------------


def title_tasks(names: "pd.Index[str]") -> list[str]:
    """Tasks as a reader knows them."""
    return [TITLES.get(name, name) for name in names]


def shade(axes: Axes, table: pd.DataFrame, shown: str, most: float | None = None) -> None:
    """A matrix whose cells are darker the larger they are, with the numbers in them."""
    table = table.astype(float)
    top = most or max(float(np.nanmax(table.to_numpy())), 1e-9)
    axes.imshow(table.clip(lower=0), cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (y, x), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            colour = "white" if value > 0.6 * top else INK["fg"]
            text = format(value, shown).replace("-0.00", "0.00")
            axes.text(x, y, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(table.shape[1]), title_tasks(table.columns))
    axes.set_yticks(range(table.shape[0]), title_tasks(table.index))
    axes.tick_params(length=0)


def open_matrices(rows: int, count: int = 2) -> tuple[Figure, list[Axes]]:
    """Room for matrices below each other, so that a phone can show their numbers."""
    figure = Figure(figsize=(7.5, (0.42 * rows + 0.8) * count), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def open_panels(tasks: list[str]) -> tuple[Figure, Mapping[str, Axes]]:
    """A panel per task."""
    rows = -(-len(tasks) // PANELS)
    figure = Figure(figsize=(4 * PANELS, 3.1 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, PANELS, squeeze=False).ravel()
    for axes in grid[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(grid, tasks, strict=False):
        axes.set_title(TITLES.get(task, task), loc="left", color=INK["fg"])
        axes.grid(axis="y")
    return figure, dict(zip(tasks, grid, strict=False))


def label(figure: Figure, legend: Mapping[str, Style], x: str) -> Figure:
    """With one legend and one pair of labels for all panels."""
    handles = [
        Line2D([], [], color=INK[style.colour], marker=style.marker, label=METHODS.get(name, name))
        for name, style in legend.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel(x, size=12)
    figure.supylabel("balanced accuracy, %", size=12)
    return figure


def where(table: pd.DataFrame) -> Figure:
    """Percent kept by task and layer, mean over seeds."""
    cut = table[table["ratio"] == RATIO]
    cut = cut.assign(share=100 * cut["kept"] / cut["of"])
    figure, grid = open_matrices(cut["task"].nunique())
    for axes, (kind, title) in zip(grid, KINDS.items(), strict=True):
        part = cut[cut["kind"] == kind]
        shares = part.pivot_table("share", "task", "layer", sort=False)
        shares.columns = shares.columns + 1
        shade(axes, shares.set_axis(shares.columns.astype(str), axis=1), ".0f", 100)
        axes.set(title=f"{title} kept, % by layer")
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Score against what is removed: neurons answer zero, mean over seeds."""
    legend = styles(dict.fromkeys(table["by"]))
    figure, grid = open_panels(list(dict.fromkeys(table["task"])))
    for (task, by, first), part in table.groupby(["task", "by", "first"], sort=False):
        marks = average(part, (100 * part["removed"]).round())
        add(grid[str(task)], legend[str(by)], marks, marks, is_hollow=first == "most")
    return label(figure, legend, "block parameters removed, %")


def overlap(table: pd.DataFrame) -> Figure:
    """Mean overlap of jobs of two seeds; on the diagonal the same task, other seed."""
    jobs = table[table["between"] == "jobs"]
    turned = jobs.rename(columns={"task": "other task", "other task": "task"})
    both = pd.concat([jobs, turned])
    if jobs["seed"].nunique() > 1:
        both = both[both["seed"] != both["other seed"]]
    order = list(dict.fromkeys(jobs["task"]))
    figure, grid = open_matrices(len(order))
    for axes, (kind, title) in zip(grid, KINDS.items(), strict=True):
        of = both[both["kind"] == kind].pivot_table("overlap", "task", "other task")
        shade(axes, of.loc[order, order], ".2f", 1)
        axes.set_title(f"overlap of {title}")
    return figure


def causal(table: pd.DataFrame) -> Figure:
    """Harm beyond a random cut's, points: neurons answer zero."""
    found = 100 * table.pivot_table("harm", "cut", "task", sort=False)
    figure, (axes,) = open_matrices(len(found), 1)
    shade(axes, found.loc[found.columns], "+.1f")
    axes.set(xlabel="scored", ylabel="neurons cut out", title="harm beyond random neurons, points")
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """The expected calibration error by task, before and after the cut and after re-tuning."""
    shown = table[(table["state"] == "dense") | (table["ratio"] == RATIO)]
    found = 100 * shown.pivot_table("error", "task", "state", sort=False)
    figure = Figure(figsize=(7.5, 0.5 * len(found) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for (state, colour), marker in zip(STATES.items(), "xso", strict=True):
        axes.plot(found[state], range(len(found)), marker, color=INK[colour], label=state)
    axes.set_yticks(range(len(found)), title_tasks(found.index))
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set(xlabel="expected calibration error at 90 % cut, %", xlim=(0, None))
    figure.legend(loc="outside upper center", ncols=len(STATES), frameon=False)
    return figure


PICTURES = {
    "where": where,
    "ablation": ablation,
    "overlap": overlap,
    "causal": causal,
    "calibration": calibration,
}
