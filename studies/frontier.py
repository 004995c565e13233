"""``python -m studies.frontier``: cuts and distilled first layers in 8 bits, at their speed.

Prints the table of docs/results.md and by how much cuts are ahead, and draws docs/frontier.png,
from results/int8.csv (scores, means over seeds) and results/one_text.csv (one text of 64 tokens on
one thread). The table ends with results/baselines.csv, which is in fp32.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.shapes import name_first
from skip_exp.commands.compare import t_test
from skip_exp.report.tables import pipe_rows
from skip_exp.within.choose import Cut
from studies.evidence import RESULTS, TITLES

TASKS = ("sst2", "cola", "mrpc", "banking77", "cr", "clinc150", "irony", "mpqa")
RIVALS = {"80 % cut": "first 2 layers", "90 % cut, 3 layers": "first layer"}  # as fast
DEPTH = 6  # layers of MiniLM
ASKED = "shape == 'minilm' and length == 64 and form == 'int8' and texts == 1"
PROCESSORS = {"EPYC": "AMD EPYC", "Xeon": "Intel(R) Xeon(R) Processor"}
KINDS = {"cut": ("o-", "#3d5a80"), "first layers, distilled": ("s--", "#b5532d")}


def name_form(ratio: float, layers: float) -> str:
    """As ``benchmarks.shapes`` names it; ``layers`` is NaN where all are kept.

    Example:
        >>> name_form(0.9, 3), name_form(0.667, 2)
        ('90 % cut, 3 layers', 'first 2 layers')
    """
    if layers > 0 and ratio < 1 - layers / DEPTH + 0.01:
        return name_first(int(layers))
    return str(Cut(ratio, int(layers) if layers > 0 else None))


def read_times() -> pd.DataFrame:
    """Milliseconds of one text [models, processors], slowest first."""
    rows = pd.read_csv(RESULTS / "one_text.csv").query(ASKED)
    times = rows.pivot_table("ms", "model", "device")[[*PROCESSORS.values()]]
    return times.set_axis([*PROCESSORS], axis="columns").sort_values("EPYC", ascending=False)


def read_scores(task: str) -> pd.DataFrame:
    """Scores of a task in 8 bits [models, seeds], NaN where a model lacks a seed."""
    rows = pd.read_csv(RESULTS / "int8.csv").query("recipe == 'strong' and split == 'validation'")
    rows = rows[rows["task"] == task]
    names = [*map(name_form, rows["ratio"], rows["layers"])]
    return rows.assign(model=names).pivot_table("after", "model", "seed")


def table() -> list[list[str]]:
    """A line per model, slowest first: its times, and each task's mean score over the seeds."""
    times = read_times()
    scores = pd.DataFrame({task: read_scores(task).mean(axis="columns") for task in TASKS})
    lines = [
        ["8 bits", *times, *(TITLES[task] for task in TASKS)],
        ["---", *["---:"] * (len(times.columns) + len(TASKS))],
    ]
    for name in times.index.intersection(scores.index, sort=False):
        ms = [f"{each:.2f}" for each in times.loc[name]]
        lines.append([name, *ms, *map(write_score, scores.loc[name])])
    return lines + list_baselines()


def write_score(score: float) -> str:
    """One decimal, or a dash for a model that was not made."""
    return "-" if pd.isna(score) else f"{score:.1f}"


def compare() -> dict[str, str]:
    """By cut: points it is ahead of layers as fast, in the mean of tasks, with a 95 % t-interval.

    Of each task those seeds count that both have.
    """
    scores = [read_scores(task) for task in TASKS]
    told = {}
    for cut, layers in RIVALS.items():
        ahead = pd.Series([(each.loc[cut] - each.loc[layers]).mean() for each in scores])
        low, high, _ = t_test(ahead)
        told[cut] = f"{ahead.mean():.1f} points more ({low:.1f} to {high:.1f})"
    return told


def list_baselines() -> list[list[str]]:
    """A line per baseline, without its time."""
    rows = pd.read_csv(RESULTS / "baselines.csv").query("seed == 1 and train_rows.isna()")
    scores = rows.pivot_table("validation", "model", "task").reindex(columns=[*TASKS])
    dashes = ["-"] * len(PROCESSORS)
    return [[name, *dashes, *map(write_score, line)] for name, *line in scores.to_records()]


def read_forms(task: str) -> pd.DataFrame:
    """Columns ms, score and error (standard, over the rows) of each model, fastest first."""
    rows = pd.read_csv(RESULTS / "int8.csv").query("split == 'validation'")
    count = rows.loc[rows["task"] == task, "rows"].iloc[0]
    score = read_scores(task).mean(axis="columns")
    # Of Matthews correlation about 1 / sqrt(n).
    variance = 100**2 if task == "cola" else score * (100 - score)
    found = pd.DataFrame({"score": score, "error": (variance / count) ** 0.5})
    return found.join(read_times()["EPYC"].rename("ms"), how="inner").sort_values("ms")


def draw() -> Figure:
    """A panel per task: cuts, and first layers, of the same uncut model."""
    figure = Figure(figsize=(5.2, 9.2), layout="constrained")
    figure.suptitle("score on validation, % (8 bits)", x=0.01, ha="left", fontsize=12)
    figure.supxlabel("ms for one text of 64 tokens, one thread of an EPYC", fontsize=12)
    for axes, task in zip(figure.subplots(4, 2).flat, TASKS, strict=True):
        forms = read_forms(task)
        is_layers = forms.index.str.startswith("first")
        parts = forms[~is_layers], forms[is_layers | (forms.index == "uncut")]
        for (kind, (marker, colour)), part in zip(KINDS.items(), parts, strict=True):
            axes.errorbar("ms", "score", "error", data=part, fmt=marker, color=colour, label=kind)
        axes.set_title(TITLES[task], fontsize=12)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0)
    figure.axes[0].legend(frameon=False, fontsize=9, loc="lower right", handlelength=1.2)
    return figure


if __name__ == "__main__":
    print(pipe_rows(table()))
    print(compare())
    draw().savefig(Path(__file__).parents[1] / "docs/frontier.png", dpi=150)
