"""The picture of studies/anatomy.md, from the tables in results/anatomy; of one backbone."""

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
METHODS = {"activation_gradient": "activation x gradient"}
PANELS = 2  # a row


def draw() -> None:
    """Write the picture."""
    mpl.rcParams.update({**PLOT_SETTINGS, "font.size": 12})
    ablation(pd.read_csv(TABLES / "ablation.csv")).savefig(OUT / "ablation.png", dpi=130)


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


def ablation(table: pd.DataFrame) -> Figure:
    """Score against what is removed: neurons answer zero, mean over seeds."""
    legend = styles(dict.fromkeys(table["by"]))
    figure, grid = open_panels(list(dict.fromkeys(table["task"])))
    for (task, by, first), part in table.groupby(["task", "by", "first"], sort=False):
        marks = average(part, (100 * part["removed"]).round())
        add(grid[str(task)], legend[str(by)], marks, marks, is_hollow=first == "most")
    return label(figure, legend, "block parameters removed, %")
