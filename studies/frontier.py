"""``python -m studies.frontier``: cuts and distilled first layers in 8 bits, at their speed.

Prints the table of docs/results.md and draws docs/frontier.png, from results/int8.csv (scores) and
results/one_text.csv (one text of 64 tokens on one thread). Seed 1, since the layers have no other.
The table ends with results/baselines.csv, which is in fp32.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.shapes import name_first
from skip_exp.report.tables import pipe_rows
from skip_exp.within.choose import Cut
from studies.evidence import RESULTS, TITLES

TASKS = ("sst2", "cola", "banking77", "cr", "irony", "mpqa")
DEPTH = 6  # layers of MiniLM
ASKED = "shape == 'minilm' and length == 64 and form == 'int8'"  # whose times are shown
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


def read_forms(task: str) -> pd.DataFrame:
    """Columns ms, score and error of each form of a task in 8 bits, fastest first."""
    rows = pd.read_csv(RESULTS / "int8.csv").query("recipe == 'strong' and split == 'validation'")
    rows = rows[(rows["task"] == task) & (rows["seed"] == 1)]
    times = pd.read_csv(RESULTS / "one_text.csv").query(ASKED)
    rows = rows.set_axis([*map(name_form, rows["ratio"], rows["layers"])])
    score = rows["after"]
    # Of Matthews correlation about 1 / sqrt(n).
    variance = 100**2 if task == "cola" else score * (100 - score)
    found = pd.DataFrame({"score": score, "error": (variance / rows["rows"]) ** 0.5})
    return found.join(times.set_index("model")["ms"]).sort_values("ms")


def table() -> list[list[str]]:
    """A line per form, slowest first: its time, and each task's score."""
    forms = {task: read_forms(task) for task in TASKS}
    times = pd.concat([each["ms"] for each in forms.values()]).groupby(level=0).first()
    lines = [
        ["8 bits", "ms", *(TITLES[task] for task in TASKS)],
        ["---", *["---:"] * (len(TASKS) + 1)],
    ]
    for name, ms in times.sort_values(ascending=False).items():
        scores = [each["score"].get(name) for each in forms.values()]
        cells = ["-" if score is None else f"{score:.1f}" for score in scores]
        lines.append([str(name), f"{ms:.2f}", *cells])
    return lines + list_baselines()


def list_baselines() -> list[list[str]]:
    """A line per baseline, without its time."""
    rows = pd.read_csv(RESULTS / "baselines.csv").query("seed == 1 and train_rows.isna()")
    scores = rows.pivot_table("validation", "model", "task")[[*TASKS]]
    return [[name, "-", *map("{:.1f}".format, line)] for name, *line in scores.to_records()]


def draw() -> Figure:
    """A panel per task: cuts, and first layers, of the same uncut model."""
    figure = Figure(figsize=(5.2, 7.4), layout="constrained")
    figure.suptitle("score on validation, % (8 bits)", x=0.01, ha="left", fontsize=12)
    figure.supxlabel("ms for one text of 64 tokens, one thread", fontsize=12)
    for axes, task in zip(figure.subplots(3, 2).flat, TASKS, strict=True):
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
    draw().savefig(Path(__file__).parents[1] / "docs/frontier.png", dpi=150)
