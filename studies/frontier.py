"""``python -m studies.frontier``: docs/frontier.png and the table, from results/frontier.csv.

`python -m benchmarks.frontier` measures the rows. Speeds are relative to the fine-tuned MiniLM of
the same run; with several tasks, scores are means and speeds geometric means.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skip_exp.report.tables import piped

ROOT = Path(__file__).resolve().parents[1]
ROWS, OUT = ROOT / "studies/results/frontier.csv", ROOT / "docs/frontier.png"
REFERENCE = "MiniLM, fine-tuned"
OURS = "ours"
KINDS = {  # start of a method's name -> colour, marker, connected; they differ in grey, too
    "ours": ("#1b4f8f", "o", True),
    "paper": ("#8a5a9e", "s", True),
    "MiniLM": ("#d9822b", "^", False),
    "": ("#666666", "D", False),
}


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method: score, speed and training time relative to REFERENCE, and size."""
    runs = rows.pivot_table(index="method", columns=["task", "seed"], values="texts_per_s")
    speed = np.exp(np.log(runs / runs.loc[REFERENCE]).mean(axis=1))
    found = rows.groupby("method")[["score", "mb", "train_s", "texts_per_s"]].mean()
    return found.assign(speed=speed).sort_values("speed")


def table(found: pd.DataFrame) -> list[list[str]]:
    """What the picture shows, in numbers."""
    lines = [["method", "score", "speed", "texts/s", "MB", "training"], ["---"] * 6]
    for method, row in found.iterrows():
        figures = f"{row.score:.1f}", f"{row.speed:.2g}x", f"{row.texts_per_s:,.0f}"
        lines.append([str(method), *figures, f"{row.mb:.1f}", f"{row.train_s / 60:.1f} min"])
    return lines


def draw(axes: Axes, found: pd.DataFrame) -> None:
    """A point per method; ours and the paper's in a line."""
    left = set(found.index)
    for start, (colour, marker, is_line) in KINDS.items():
        names = [name for name in found.index if name in left and name.startswith(start)]
        names = [name for name in names if not (is_line and "int8" in name)]
        left -= set(names)
        part = found.loc[names].sort_values("speed")
        style = "-" if is_line else ""
        axes.plot(part.speed, part.score, style, color=colour, marker=marker, markersize=8)
        for name, row in part.iterrows():
            text = str(name).removeprefix("MiniLM, ").removeprefix("ours, ")
            axes.annotate(
                text,
                (row.speed, row.score),
                (6, 6 if start == OURS else -13),
                textcoords="offset points",
                color=colour,
                fontsize=10,
                weight="bold" if start == OURS else "normal",
            )


def main() -> None:
    rows = pd.read_csv(ROWS)
    found = means(rows)
    print(piped(table(found)))
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    draw(axes, found)
    axes.set_xscale("log")
    axes.set_xlabel(f"texts a second, relative to {REFERENCE} ({rows.processor.iloc[0]})")
    axes.set_ylabel(f"score on {', '.join(sorted(set(rows.task)))}")
    figure.savefig(OUT, dpi=160)


if __name__ == "__main__":
    main()
