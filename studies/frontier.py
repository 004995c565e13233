"""``python -m studies.frontier``: figures in docs and the table, from results/frontier.csv.

`python -m benchmarks.frontier` measures the rows. Speeds are relative to the fine-tuned MiniLM of
the same run; over several tasks they are geometric means. Scores are means over seeds.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import textalloc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skip_exp.report.tables import pipe_rows
from studies.evidence import TITLES

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "studies/results/frontier.csv"
AMD, INTEL = "AMD EPYC", "Intel(R) Xeon(R) Processor"
PROCESSORS = {AMD: "EPYC", INTEL: "Xeon"}
FIGURES = {  # in docs: the processor, and a panel per task
    "frontier": (AMD, ["sst2", "cola"]),
    "frontier_more": (AMD, ["banking77", "cr"]),
    "frontier_xeon": (INTEL, ["sst2", "cola"]),
}
REFERENCE = "MiniLM, fine-tuned"
FULL = "ours, full"
METRIC = {"cola": "Matthews"}
APART = (  # not in the table
    *("MiniLM, fine-tuned, int8", "MiniLM frozen, linear readout", "MiniLM, LoRA", "SetFit"),
    *("paper, 90% cut", "ours, low-rank, 0% cut", "ours, low-rank, 90% cut, int8"),
)
KINDS = {  # start of a method's name -> colour, marker, connected, legend; they differ in grey, too
    FULL: ("#2f7d5b", "s", True, "ours, every weight trained"),
    "ours, low-rank": ("#1b4f8f", "o", True, "ours, low-rank updates: skills of a megabyte"),
    "paper": ("#8a5a9e", "v", True, "the paper's recipe"),
    "MiniLM": ("#d9822b", "^", False, "MiniLM itself"),
    "": ("#666666", "D", False, "other methods"),
}


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Per method: the score on each task, MB, and by processor the speed relative to REFERENCE."""
    # A run of one commit holds its own reference: speeds of two runs are not mixed.
    run = ["processor", "task", "seed", "commit"]
    runs = rows.pivot_table(index="method", columns=run, values="texts_per_s")
    relative = np.log(runs / runs.loc[REFERENCE])
    speeds = np.exp(relative.T.groupby("processor").mean().T).rename(columns=PROCESSORS)
    once = rows.drop_duplicates(["task", "seed", "method"])  # a reference may stand in two runs
    scores = once.pivot_table(index="method", columns="task", values="score", sort=False)
    found = scores.assign(mb=rows.groupby("method")["mb"].mean()).join(speeds)
    return found.sort_values([*speeds])


def table(found: pd.DataFrame) -> list[list[str]]:
    """The methods in docs/results.md; the others are in the picture."""
    machines = [name for name in PROCESSORS.values() if name in found]
    tasks = [name for name in found if name not in ("mb", *machines)]
    titles = (TITLES.get(task, task) for task in tasks)
    lines = [["method", f"speed: {', '.join(machines)}", *titles, "MB"]]
    lines.append(["---"] * len(lines[0]))
    for method, row in found.drop(index=[*APART], errors="ignore").iterrows():
        speeds = ", ".join(shown(row[name], "x") for name in machines)
        lines.append([str(method), speeds, *(shown(row[task]) for task in tasks), f"{row.mb:.0f}"])
    return lines


def shown(number: float, unit: str = "") -> str:
    """With one decimal; ``-`` where nothing was measured."""
    return "-" if np.isnan(number) else f"{number:.1f}{unit}"


def draw(axes: Axes, found: pd.DataFrame) -> None:
    """A point per method; ours and the paper's in a line, without the export."""
    left, labels, lines = set(found.index), [], []
    for start, (colour, marker, is_line, legend) in KINDS.items():
        names = [name for name in found.index if name in left and name.startswith(start)]
        left -= set(names)
        part = found.loc[names].sort_values("speed")
        if part.empty:
            continue
        axes.plot(part.speed, part.score, marker, color=colour, markersize=8, label=legend)
        if is_line:
            first = [REFERENCE] if start == FULL else []  # nothing is cut
            joined = found.loc[[*first, *(name for name in part.index if "int8" not in name)]]
            axes.plot(joined.speed, joined.score, color=colour)
            lines.append(joined)
        for name, row in part.iterrows():
            text = str(name).removeprefix(start).removeprefix(", ").replace(" cut", "")
            labels.append((row.speed, row.score, text, colour))
    x, y, texts, colours = map(list, zip(*labels, strict=True))
    textalloc.allocate(
        axes,
        x,
        y,
        texts,
        x_scatter=x,
        y_scatter=y,
        x_lines=[line.speed.to_numpy() for line in lines],
        y_lines=[line.score.to_numpy() for line in lines],
        min_distance=0.018,
        nbr_candidates=3000,
        avoid_crossing_label_lines=True,
        avoid_label_lines_overlap=True,
        textcolor=colours,
        linecolor="#999999",
    )


def main() -> None:
    rows = pd.read_csv(ROWS)
    print(pipe_rows(table(means(rows))))
    mpl.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    for name, (machine, tasks) in FIGURES.items():
        figure_of(rows, PROCESSORS[machine], tasks).savefig(ROOT / f"docs/{name}.png", dpi=160)


def figure_of(rows: pd.DataFrame, machine: str, tasks: list[str]) -> Figure:
    """A panel per task: the scores of all seeds, and the speeds on one machine."""
    figure = Figure(figsize=(9, 4.6 * len(tasks)), layout="constrained")
    for axes, task in zip(figure.subplots(len(tasks), squeeze=False)[:, 0], tasks, strict=True):
        found = means(rows[rows.task == task]).rename(columns={machine: "speed", task: "score"})
        found = found.dropna(subset="speed").sort_values("speed")
        axes.set_xscale("log")
        ticks = (1, 2, 3, 5, 10, 30, 100)
        axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(min(0.5, 0.6 * found.speed.min()), 140)
        axes.margins(y=0.08)
        draw(axes, found)
        axes.legend(loc="upper right", fontsize=10, frameon=False)
        axes.set_ylabel(f"{TITLES.get(task, task)}, {METRIC.get(task, 'accuracy')}")
    axes.set_xlabel(f"texts a second, relative to {REFERENCE} ({machine})")
    return figure


if __name__ == "__main__":
    main()
