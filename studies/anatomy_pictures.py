"""``python -m studies.anatomy_pictures``: docs/anatomy/*.png and tables, from results/anatomy.

    skip-exp anatomy outputs/evidence --out studies/results/anatomy
    python -m studies.anatomy_pictures

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

from skip_exp.neurons.measure import areas
from skip_exp.report.anatomy import points
from skip_exp.report.figures import INK, SETTINGS, Style, add, styles
from skip_exp.report.matrices import gains, nearest
from skip_exp.report.tables import piped
from studies.evidence import TITLES

ROOT = Path(__file__).resolve().parents[1]
TABLES, OUT = ROOT / "studies/results/anatomy", ROOT / "docs/anatomy"
KINDS = {"encoder.ffn": "feed-forward neurons", "encoder.self.heads": "heads"}
METHODS = {"activation_gradient": "activation x gradient"}
SENTIMENT = ("cr", "sst2")  # beside each other in a matrix, before the sentence pairs
STATES = {"dense": "control", "pruned": "c1", "final": "c0"}
PANELS = 2  # a row


def main() -> None:
    mpl.rcParams.update({**SETTINGS, "font.size": 12})
    OUT.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        picture(pd.read_csv(TABLES / f"{name}.csv")).savefig(OUT / f"{name}.png", dpi=130)
    print(piped(judged(pd.read_csv(TABLES / "methods.csv"))))


def named(values: "pd.Index[str]") -> list[str]:
    """Tasks as a reader knows them."""
    return [TITLES.get(value, value) for value in values]


def shaded(axes: Axes, table: pd.DataFrame, shown: str, most: float | None = None) -> None:
    """A matrix whose cells are darker the larger they are, with the numbers in them."""
    table = table.astype(float)
    top = most or max(float(np.nanmax(table.to_numpy())), 1e-9)
    axes.imshow(table.clip(lower=0), cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (y, x), value in np.ndenumerate(table.to_numpy()):
        if not np.isnan(value):
            colour = "white" if value > 0.6 * top else INK["fg"]
            text = format(value, shown).replace("-0.00", "0.00")
            axes.text(x, y, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(table.shape[1]), named(table.columns))
    axes.set_yticks(range(table.shape[0]), named(table.index))
    axes.tick_params(length=0)


def matrices(rows: int, count: int = 2) -> tuple[Figure, list[Axes]]:
    """Room for matrices below each other, so that a phone can show their numbers."""
    figure = Figure(figsize=(7.5, (0.42 * rows + 0.8) * count), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False)[:, 0])


def panels(tasks: list[str]) -> tuple[Figure, Mapping[str, Axes]]:
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


def labelled(figure: Figure, legend: Mapping[str, Style], x: str) -> Figure:
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
    cut = nearest(table, 0.9).assign(share=lambda t: 100 * t["kept"] / t["of"])
    figure, grid = matrices(cut["task"].nunique())
    for axes, (kind, title) in zip(grid, KINDS.items(), strict=True):
        part = cut[cut["kind"] == kind]
        shares = part.pivot_table("share", "task", "layer", sort=False)
        shares.columns = shares.columns + 1
        shaded(axes, shares.set_axis(shares.columns.astype(str), axis=1), ".0f", 100)
        axes.set(title=f"{title} kept, % by layer")
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Score against what is removed: neurons answer zero, mean over seeds."""
    table = table[table["answer"] == "zero"]
    legend = styles(dict.fromkeys(table["by"]))
    figure, grid = panels(list(dict.fromkeys(table["task"])))
    for (task, by, first), part in table.groupby(["task", "by", "first"], sort=False):
        marks = points(part, (100 * part["removed"]).round())
        add(grid[str(task)], legend[str(by)], marks, marks, is_hollow=first == "most")
    return labelled(figure, legend, "block parameters removed, %")


def overlap(table: pd.DataFrame) -> Figure:
    """Mean overlap of jobs of two seeds; on the diagonal the same task, other seed."""
    jobs = table[table["between"] == "jobs"]
    turned = jobs.rename(columns={"task": "other task", "other task": "task"})
    both = pd.concat([jobs, turned])
    if jobs["seed"].nunique() > 1:
        both = both[both["seed"] != both["other seed"]]
    order = list(dict.fromkeys(jobs["task"]))
    figure, grid = matrices(len(order))
    for axes, (kind, title) in zip(grid, KINDS.items(), strict=True):
        of = both[both["kind"] == kind].pivot_table("overlap", "task", "other task")
        shaded(axes, of.loc[order, order], ".2f", 1)
        axes.set_title(f"overlap of {title}")
    return figure


def causal(table: pd.DataFrame) -> Figure:
    """Harm beyond a random cut's, points: neurons answer zero."""
    found = 100 * table[table["answer"] == "zero"].pivot_table("harm", "cut", "task", sort=False)
    figure, (axes,) = matrices(len(found), 1)
    shaded(axes, found.loc[found.columns], "+.1f")
    axes.set(xlabel="scored", ylabel="neurons cut out", title="harm beyond random neurons, points")
    return figure


def transfer(table: pd.DataFrame) -> Figure:
    """Points above random neurons after re-tuning."""
    found = 100 * gains(table).pivot_table("gain", "kept", "task", sort=False)
    figure, (axes,) = matrices(len(found), 1)
    order = [*sorted(found.columns, key=lambda task: (task not in SENTIMENT, task))]
    shaded(axes, found.loc[order, order], "+.1f")
    axes.set(xlabel="re-tuned", ylabel="neurons kept", title="score above random neurons, points")
    return figure


def scarcity(table: pd.DataFrame) -> Figure:
    """Score against the rows of re-tuning, a panel per cut and task."""
    legend = styles(dict.fromkeys(table["by"]))
    cut = (100 * table["ratio"]).map("{:g} % cut".format)
    table = table.assign(panel=table["task"].replace(TITLES) + ", " + cut)
    figure, grid = panels(list(dict.fromkeys(table["panel"])))
    for panel, cases in table.groupby("panel", sort=False):
        axes, counts = grid[str(panel)], sorted(cases["rows"].unique())
        for by, part in cases.groupby("by", sort=False):
            marks = points(part, part["rows"].map(counts.index))
            add(axes, legend[str(by)], marks, marks)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
    for _, cases in table.groupby("task"):  # one scale for both cuts
        scale = 100 * cases["score"].min() - 2, 100 * cases["score"].max() + 2
        for panel in cases["panel"].unique():
            grid[str(panel)].set_ylim(scale)
    return labelled(figure, legend, "rows of re-tuning")


def calibration(table: pd.DataFrame) -> Figure:
    """The expected calibration error by task, before and after the cut and after re-tuning."""
    cut = nearest(table, 0.9)
    shown = pd.concat([table[table["state"] == "dense"], cut])
    errors = shown.drop_duplicates(["task", "seed", "state", "ratio"])
    found = 100 * errors.pivot_table("error", "task", "state", sort=False)
    figure = Figure(figsize=(7.5, 0.5 * len(found) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for (state, colour), marker in zip(STATES.items(), "xso", strict=True):
        axes.plot(found[state], range(len(found)), marker, color=INK[colour], label=state)
    axes.set_yticks(range(len(found)), named(found.index))
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set(xlabel="expected calibration error at 90 % cut, %", xlim=(0, None))
    figure.legend(loc="outside upper center", ncols=len(STATES), frameon=False)
    return figure


def judged(table: pd.DataFrame) -> list[list[str]]:
    """Area between both orders in points, with zero answers: a row per method, best first."""
    found = 100 * areas(table[table["answer"] == "zero"]).pivot_table("area", "by", "task")
    found = found.assign(mean=found.mean(axis=1)).sort_values("mean", ascending=False)
    heads = ["method", *named(found.columns)]
    rows = [[str(by), *(f"{v:+.1f}" for v in row)] for by, row in found.iterrows()]
    return [heads, ["---"] * len(heads), *rows]


PICTURES = {
    **{"where": where, "ablation": ablation, "overlap": overlap, "causal": causal},
    **{"transfer": transfer, "scarcity": scarcity, "calibration": calibration},
}

if __name__ == "__main__":
    main()
