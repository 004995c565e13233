"""Cuts and distilled first layers in 8 bits, at their speed: table and picture of docs/results.md.

From results/int8.csv (scores, means over seeds), results/one_text.csv (one text of 64 tokens on
one thread) and results/baselines.csv, which is in fp32.
"""

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.shapes import name_first
from skip_exp.commands.compare import t_test
from skip_exp.within.choose import Cut
from studies.evidence import RESULTS, TITLES

TASKS = ("sst2", "cola", "mrpc", "banking77", "cr", "clinc150", "irony", "mpqa")
RIVALS = {"80 % cut": "first 2 layers", "90 % cut, 3 layers": "first layer"}  # as fast
BASELINE = "TF-IDF, linear SVM"
DEPTH = 6  # layers of MiniLM
ASKED = "shape == 'minilm' and length == @length and form == 'int8' and texts == 1"
PROCESSORS = {"EPYC": "AMD EPYC", "Xeon": "Intel(R) Xeon(R) Processor"}
KINDS = {
    "first layers": ("s", "#b5532d", ["first 2 layers", "first layer"]),
    "cuts": ("o", "#3d5a80", ["70 % cut", "80 % cut", "90 % cut"]),
    "cuts in 3 layers": ("^", "#3d5a80", ["90 % cut, 3 layers"]),
}


def name_form(ratio: float, layers: float) -> str:
    """As ``benchmarks.shapes`` names it; ``layers`` is NaN where all are kept.

    Example:
        >>> name_form(0.9, 3), name_form(0.667, 2)
        ('90 % cut, 3 layers', 'first 2 layers')
    """
    if layers > 0 and ratio < 1 - layers / DEPTH + 0.01:
        return name_first(int(layers))
    return str(Cut(ratio, int(layers) if layers > 0 else None))


def read_times(length: int = 64) -> pd.DataFrame:
    """Milliseconds of one text of so many tokens [models, processors], slowest first."""
    rows = pd.read_csv(RESULTS / "one_text.csv").query(ASKED)
    times = rows.pivot_table("ms", "model", "device")[[*PROCESSORS.values()]]
    return times.set_axis([*PROCESSORS], axis="columns").sort_values("EPYC", ascending=False)


def speed_up(model: str) -> list[str]:
    """How many times as fast as the uncut model it answers one text, by processor."""
    times = read_times()
    return [f"{ratio:.1f}" for ratio in times.loc["uncut"] / times.loc[model]]


def read_scores(task: str) -> pd.DataFrame:
    """Scores of a task in 8 bits [models, seeds], NaN where a model lacks a seed."""
    rows = pd.read_csv(RESULTS / "int8.csv").query("recipe == 'strong' and split == 'validation'")
    rows = rows[rows["task"] == task]
    names = [*map(name_form, rows["ratio"], rows["layers"])]
    return rows.assign(model=names).pivot_table("after", "model", "seed")


def read_baseline(task: str) -> float:
    """The score of TF-IDF."""
    rows = pd.read_csv(RESULTS / "baselines.csv").query("seed == 1 and train_rows.isna()")
    return rows[(rows["task"] == task) & (rows["model"] == BASELINE)]["validation"].item()


def table() -> list[list[str]]:
    """A line per task, its mean score over the seeds by model; before them the times."""
    models = ["uncut"]
    for pair in RIVALS.items():
        models += pair
    times = read_times().loc[models].to_numpy()
    lines = [["8 bits", *models, BASELINE], ["---", *["---:"] * (len(models) + 1)]]
    lines.append(["ms, EPYC / Xeon", *(" / ".join(map("{:.2f}".format, ms)) for ms in times), ""])
    for task in TASKS:
        scores = [*read_scores(task).mean(axis="columns")[models], read_baseline(task)]
        lines.append([TITLES[task], *map("{:.1f}".format, scores)])
    return lines


def lead(ours: str, other: str) -> "pd.Series[float]":
    """Points that a model is ahead of another, by task; of the seeds that both have."""
    scores = [read_scores(task) for task in TASKS]
    return pd.Series([(part.loc[ours] - part.loc[other]).mean() for part in scores], TASKS)


def compare(cut: str) -> str:
    """Points that a cut is ahead of layers as fast, in the mean of tasks, with a t-interval."""
    ahead = lead(cut, RIVALS[cut])
    low, high, _ = t_test(ahead)
    return f"{ahead.mean():.1f} points more ({low:.1f} to {high:.1f})"


def draw() -> Figure:
    """Mean change from the uncut model against the time of a text, with 95 % t-intervals."""
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"8 bits: change from uncut, mean of {len(TASKS)} tasks, points", loc="left")
    times = read_times()["EPYC"]
    for kind, (marker, colour, models) in KINDS.items():
        for model in models:
            changes = lead(model, "uncut")
            low, high, _ = t_test(changes)
            mean = changes.mean()
            bar = [[mean - low], [high - mean]]
            ms = times[model]
            label = kind if model == models[0] else None
            axes.errorbar(ms, mean, bar, fmt=marker, color=colour, label=label, ms=8, capsize=3)
    axes.axhline(0, color="black", lw=1)
    axes.set_xlim(0)
    axes.set_xlabel("ms for one text of 64 tokens, one thread of an EPYC", fontsize=12, loc="left")
    axes.tick_params(labelsize=12)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=12, loc="lower right")
    return figure
