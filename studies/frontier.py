"""``python -m studies.frontier``: two figures in docs and the table, from results/frontier.csv.

`python -m benchmarks.frontier` measures the rows. Speeds are relative to the fine-tuned MiniLM of
the same run; over several tasks they are geometric means.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skip_exp.report.tables import piped
from studies.evidence import CONFIRMATION, DEVELOPMENT, TITLES

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "studies/results/frontier.csv"
FIGURES = {"frontier": DEVELOPMENT, "frontier_confirmed": CONFIRMATION}  # file in docs -> tasks
REFERENCE = "MiniLM, fine-tuned"
OURS = "ours"
METRIC = {"cola": "Matthews"}
APART = (  # not in the table
    *("tf-idf, logistic regression", "model2vec, fine-tuned", "MiniLM, fine-tuned, int8"),
    *("MiniLM frozen, linear readout", "MiniLM, LoRA", "SetFit"),
)
KINDS = {  # start of a method's name -> colour, marker, connected; they differ in grey, too
    "ours": ("#1b4f8f", "o", True),
    "paper": ("#8a5a9e", "s", True),
    "MiniLM": ("#d9822b", "^", False),
    "": ("#666666", "D", False),
}


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method: the score on each task, MB, and speed relative to REFERENCE over its tasks."""
    runs = rows.pivot_table(index="method", columns=["task", "seed"], values="texts_per_s")
    speed = np.exp(np.log(runs / runs.loc[REFERENCE]).mean(axis=1))
    scores = rows.pivot_table(index="method", columns="task", values="score", sort=False)
    found = scores.assign(mb=rows.groupby("method")["mb"].mean(), speed=speed)
    return found.sort_values("speed")


def table(found: pd.DataFrame) -> list[list[str]]:
    """The dozen methods of docs/results.md; the others are in the picture."""
    tasks = [name for name in found if name not in ("mb", "speed")]
    lines = [["method", "speed", *(TITLES.get(task, task) for task in tasks), "MB"]]
    lines.append(["---"] * len(lines[0]))
    for method, row in found.drop(index=[*APART], errors="ignore").iterrows():
        scores = ["-" if np.isnan(row[task]) else f"{row[task]:.1f}" for task in tasks]
        lines.append([str(method), f"{row.speed:.1f}x", *scores, f"{row.mb:.0f}"])
    return lines


PLACES = {  # label -> where it stands, in points from its mark; else right below
    **{"fine-tuned": (-66, 4), "fine-tuned, int8": (-30, 10), "3 of 6 layers": (-40, -18)},
    **{"2 of 6 layers": (7, -1), "0% cut": (-50, -14), "52% cut": (10, -4)},
    **{"70% cut": (-34, -18), "90% cut": (-22, 10), "95% cut": (6, -14), "90% cut, int8": (9, 0)},
    **{"tf-idf, logistic regression": (-140, -18), "paper, 90% cut": (9, -4)},
    **{"MiniLM frozen, linear readout": (-64, 9), "paper, 52% cut": (9, 4)},
}
ELSEWHERE = {  # where a line is in the way
    "sst2": {
        **{"3 of 6 layers": (10, -4), "52% cut": (-22, 9), "2 of 6 layers": (9, 3)},
        **{"90% cut": (-62, -10), "model2vec, fine-tuned": (-142, 6)},
    },
    "cola": {
        **{"fine-tuned, int8": (2, 22), "LoRA": (-42, -4), "70% cut": (10, 2)},
        **{"2 of 6 layers": (-40, -18), "52% cut": (6, 5), "90% cut": (-60, -14)},
        **{"95% cut": (9, -3)},
    },
    "cr": {
        **{"0% cut": (-34, -22), "LoRA": (-42, -2), "52% cut": (-26, -20), "70% cut": (4, -18)},
        **{"3 of 6 layers": (-36, 9), "SetFit": (-14, -18)},
    },
}


def draw(axes: Axes, found: pd.DataFrame, task: str) -> None:
    """A point per method; ours and the paper's in a line, without the export."""
    left, places = set(found.index), PLACES | ELSEWHERE.get(task, {})
    for start, (colour, marker, is_line) in KINDS.items():
        names = [name for name in found.index if name in left and name.startswith(start)]
        left -= set(names)
        part = found.loc[names].sort_values("speed")
        axes.plot(part.speed, part.score, marker, color=colour, markersize=8)
        if is_line:
            joined = part.loc[[name for name in part.index if "int8" not in name]]
            axes.plot(joined.speed, joined.score, color=colour)
        for name, row in part.iterrows():
            text = str(name).removeprefix("MiniLM, ").removeprefix("ours, ")
            axes.annotate(
                text,
                (row.speed, row.score),
                places.get(text, (6, -14)),
                textcoords="offset points",
                color=colour,
                fontsize=10,
                weight="bold" if start == OURS else "normal",
            )


def main() -> None:
    rows = pd.read_csv(ROWS)
    print(piped(table(means(rows))))
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    for name, tasks in FIGURES.items():
        figure_of(rows[rows.task.isin(tasks)]).savefig(ROOT / f"docs/{name}.png", dpi=160)


def figure_of(rows: pd.DataFrame) -> Figure:
    """A panel per task."""
    tasks = list(dict.fromkeys(rows.task))
    figure = Figure(figsize=(9, 4.6 * len(tasks)), layout="constrained")
    for axes, task in zip(figure.subplots(len(tasks), squeeze=False)[:, 0], tasks, strict=True):
        found = means(rows[rows.task == task])
        draw(axes, found.rename(columns={task: "score"}), task)
        axes.margins(y=0.08)
        axes.set_xscale("log")
        ticks = (1, 2, 3, 5, 10, 30, 100)
        axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(min(0.5, 0.8 * found.speed.min()), 140)
        axes.set_ylabel(f"{TITLES.get(task, task)}, {METRIC.get(task, 'accuracy')}")
    axes.set_xlabel(f"texts a second, relative to {REFERENCE} ({rows.processor.iloc[0]})")
    return figure


if __name__ == "__main__":
    main()
