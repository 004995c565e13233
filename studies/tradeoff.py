"""Draw docs/tradeoff.png: score against speed-up, from the published rows.

Run it from the root of the repository::

    python studies/tradeoff.py

The score is the mean of five tasks' main metrics on validation, over three seeds. MPQA is left out:
over a quarter of its validation texts are also train texts. Speed-ups come from ``speedups.csv``.
"""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "docs/results/evidence_runs.csv"
BASELINES = ROOT / "docs/results/opponents/evidence_runs.csv"
SPEEDUPS = Path(__file__).with_name("speedups.csv")
OUT = ROOT / "docs/tradeoff.png"
TASKS = ("sst2", "cr", "sst5", "mrpc", "cola")
LORA = {"sst2": "0.001", "cr": "0.001", "sst5": "0.001", "mrpc": "0.002", "cola": "0.001"}
STYLES = {  # processor -> colour, marker, line; they differ in grey, too
    "AMD EPYC": ("#1b4f8f", "o", "-"),
    "Intel Xeon": ("#d9822b", "s", "--"),
}


def scores(rows: pd.DataFrame) -> pd.Series:
    """The mean over tasks and seeds, by ratio; the dense model is ratio 0."""
    ours = rows.query("backbone == 'minilm' and recipe == 'default' and task in @TASKS")
    dense = ours[ours.ratio == ours.ratio.min()].assign(ratio=0.0, final=lambda each: each.dense)
    return pd.concat([dense, ours]).groupby("ratio")["final"].mean()


def lora(rows: pd.DataFrame) -> float:
    """The mean score of LoRA on the whole backbone: each task's chosen rate, two seeds."""
    uncut = rows[rows.recipe.str.endswith("lora")]
    chosen = [uncut[(uncut.task == task) & (uncut.setting == rate)] for task, rate in LORA.items()]
    return float(pd.concat(chosen).groupby("task")["final"].mean().mean())


def draw(axes: Axes, found: pd.Series, speedups: pd.DataFrame, uncut: float) -> None:
    """One line a processor, a point a ratio; the dense model and LoRA beside 1x."""
    dense = found[0.0]
    axes.axhline(dense, color="#888888", linewidth=1, zorder=0)
    for name, (colour, marker, line) in STYLES.items():
        part = speedups[speedups.processor == name]
        x, y = [1.0, *part.speedup], found[[0.0, *part.ratio]]
        axes.plot(x, y, line, color=colour, marker=marker, markersize=8, linewidth=2, label=name)
    axes.plot(1, dense, "D", color="black", markersize=9)
    axes.plot(1, uncut, "^", color="black", markersize=9)
    axes.annotate("dense prompt", (1, dense), (8, -20), textcoords="offset points")
    axes.annotate("LoRA, nothing removed", (1, uncut), (12, -4), textcoords="offset points")
    last = speedups[speedups.processor == "AMD EPYC"]
    for ratio, speedup in zip(last.ratio, last.speedup, strict=True):
        place = (speedup, found[ratio])
        label = f"{100 * ratio:.0f} %" + (" removed" if ratio == last.ratio.max() else "")
        axes.annotate(label, place, (6, 8), textcoords="offset points", weight="bold")


def main() -> None:
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    found = scores(pd.read_csv(ROWS))
    draw(axes, found, pd.read_csv(SPEEDUPS), lora(pd.read_csv(BASELINES, dtype={"setting": str})))
    axes.set_xscale("log")
    ticks = (1, 2, 3, 5, 8, 12)
    axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.93, 21)
    axes.set_ylim(60, 69.5)
    axes.set_xlabel("speed-up over the dense model (fp32, 32 texts of 128 tokens, two CPU cores)")
    axes.set_ylabel("mean score of five tasks")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(OUT, dpi=160)


if __name__ == "__main__":
    main()
