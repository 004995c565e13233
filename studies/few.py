"""Few train rows: the tables and the picture of studies/few.md, from rows in ``results``."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.evidence import RESULTS, TITLES, signed
from studies.figures import FINAL, read_rows

COUNTS = (100, 400, 1000)
DRAWN = ("cr", "sst2", "banking77")  # tasks with all counts
COLUMNS = {  # of the table, with the columns of both files
    "TF-IDF": "TF-IDF, linear SVM",
    "linear head": "linear head on frozen features",
    "SetFit": "SetFit",
    "`strong`, uncut": "dense",
    "70 % cut": "cut",
}
SHOTS = [f"{task}_{shots}" for task in ("banking77", "clinc150", "hwu64") for shots in (5, 10)]
STYLES = {
    "TF-IDF": ("s:", "#7a7a7a"),
    "linear head": ("^:", "#7a7a7a"),
    "SetFit": ("D", "#b5532d"),
    "`strong`, uncut": ("o-", "#3d5a80"),
    "70 % cut": ("o--", "#3d5a80"),
}


def read_scores() -> pd.DataFrame:
    """Mean score on validation over the seeds that a model has [(task, train rows), models]."""
    cuts = read_rows("few").query("ratio == 0.7 and layers.isna()")
    cuts = cuts.groupby(["task", "train_rows"])[["metric/dense", FINAL]].mean()
    cuts = cuts.set_axis(["dense", "cut"], axis="columns")
    others = pd.read_csv(RESULTS / "baselines.csv").query("train_rows.notna()")
    others = others.pivot_table("validation", ["task", "train_rows"], "model")
    # MRPC, CoLA and RTE are in docs/results.md, beside random neurons.
    scores = cuts.join(others).dropna(subset="TF-IDF, linear SVM")[[*COLUMNS.values()]]
    scores = scores.set_axis([*COLUMNS], axis="columns")
    order = [(task, count) for task in TITLES for count in COUNTS if (task, count) in scores.index]
    return scores.loc[order]


def table() -> list[list[str]]:
    """A line per task and number of train rows."""
    lines = [["task", "rows", *COLUMNS], ["---", *["---:"] * (len(COLUMNS) + 1)]]
    for (task, count), scores in read_scores().iterrows():
        cells = ["" if pd.isna(score) else f"{score:.1f}" for score in scores]
        lines.append([TITLES[task], f"{count:,.0f}", *cells])
    return lines


def lead(ours: str, other: str, count: int) -> str:
    """The smallest and the largest lead in points of a model over another, over tasks with both."""
    scores = read_scores().xs(count, level="train_rows")
    ahead = (scores[ours] - scores[other]).dropna()
    texts = [signed(ahead.min()), signed(ahead.max())]
    return " to ".join(dict.fromkeys(texts))


def list_shots() -> list[list[str]]:
    """Accuracy in fp32 and 8 bits on others' few-shot files: a line per model, a cell per file."""
    rows = pd.read_csv(RESULTS / "shots.csv").query("split == 'validation'")
    lines = []
    for ratio, name in ((0, "`strong`, uncut"), (0.7, "70 % cut")):
        scores = rows[rows["ratio"] == ratio].set_index("task").loc[SHOTS]
        cells = scores.apply("{before:.1f} / {after:.1f}".format_map, axis="columns")
        lines.append([name, *cells])
    return lines


def draw() -> Figure:
    """A panel per task: score against train rows, a line per model."""
    figure = Figure(figsize=(5.2, 8.4), layout="constrained")
    panels = figure.subplots(len(DRAWN))
    for axes, task in zip(panels, DRAWN, strict=True):
        draw_panel(axes, read_scores().loc[task])
        axes.set_title(f"{TITLES[task]}: accuracy on validation, %", loc="left", fontsize=12)
    panels[-1].set_xlabel("labelled rows", fontsize=12, loc="left")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper left", ncols=3, frameon=False, fontsize=12)
    return figure


def draw_panel(axes: Axes, scores: pd.DataFrame) -> None:
    """Lines of one task, over a logarithmic number of rows."""
    for name, (style, colour) in STYLES.items():
        axes.plot(
            scores.index, scores[name], style, color=colour, lw=2, label=name.replace("`", "")
        )
    axes.set_xscale("log")
    axes.set_xticks([*COUNTS], [f"{count:,}" for count in COUNTS])
    axes.minorticks_off()
    axes.tick_params(labelsize=12)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
