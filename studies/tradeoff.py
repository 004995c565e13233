"""Draw docs/tradeoff.png, score against speed-up, with ``python -m studies.tradeoff``.

Scores are the means of `studies.summary`; speed-ups come from ``speedups.csv``.
"""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.summary import RATIOS, ROOT, minilm

SPEEDUPS = Path(__file__).with_name("speedups.csv")
OUT = ROOT / "docs/tradeoff.png"
STYLES = {  # processor -> colour, marker, line; they differ in grey, too
    "AMD EPYC": ("#1b4f8f", "o", "-"),
    "Intel Xeon": ("#d9822b", "s", "--"),
}


def draw(axes: Axes, means: dict[str, float], speedups: pd.DataFrame) -> None:
    """One line a processor, a point a ratio; the dense model and LoRA at 1x."""
    dense, lora = means["none"], means["none, LoRA"]
    axes.axhline(dense, color="#888888", linewidth=1, zorder=0)
    labels = [f"{100 * ratio:.0f} %" for ratio in RATIOS]
    y = [dense, *(means[label] for label in labels)]
    for name, (colour, marker, line) in STYLES.items():
        x = [1.0, *speedups[speedups.processor == name].speedup]
        axes.plot(x, y, line, color=colour, marker=marker, markersize=8, linewidth=2, label=name)
    axes.plot(1, dense, "D", color="black", markersize=9)
    axes.plot(1, lora, "^", color="black", markersize=9)
    axes.annotate("dense prompt", (1, dense), (8, -20), textcoords="offset points")
    axes.annotate("LoRA, nothing removed", (1, lora), (12, -4), textcoords="offset points")
    labels[-1] += " removed"
    places = zip(speedups[speedups.processor == "AMD EPYC"].speedup, y[1:], strict=True)
    for label, place in zip(labels, places, strict=True):
        axes.annotate(label, place, (6, 8), textcoords="offset points", weight="bold")


def main() -> None:
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    means = {row[0]: float(row[-1]) for row in minilm()[1:]}
    draw(axes, means, pd.read_csv(SPEEDUPS).query("setting == 'fp32 forward'"))
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
