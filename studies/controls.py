"""``python -m studies.controls``: does attribution find a skill's neurons? The default and random.

The table of studies/controls.md and its picture, from skip.csv and controls.csv. Both methods cut
the same dense model, and are re-tuned alike.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from skip_exp.commands.compare import t_test
from skip_exp.report.tables import pipe_rows
from studies.evidence import RESULTS, TITLES, signed

KEYS = ["task", "seed", "ratio"]
PHASES = {"metric/pruned": "before re-tuning", "metric/final": "re-tuned"}
COLOURS = {"attribution": "#3d5a80", "random": "#b5532d"}
LINES = {"metric/pruned": "o--", "metric/final": "o-"}


def read_pairs() -> pd.DataFrame:
    """The jobs that both methods have, with columns ``..._attribution`` and ``..._random``."""
    default = pd.read_csv(RESULTS / "skip.csv")
    control = pd.read_csv(RESULTS / "controls.csv").query("attribution == 'random'")
    return default.merge(control, on=KEYS, suffixes=("_attribution", "_random"))


def table(pairs: pd.DataFrame) -> list[list[str]]:
    """Scores of both methods by task, in the mean over seeds; then the mean over tasks.

    The interval is a 95 % t-interval over tasks.
    """
    ratios = sorted(set(pairs["ratio"]))
    title = ["re-tuned", "seeds", "uncut"]
    for ratio in ratios:
        title += [f"{100 * ratio:.0f} %", "random"]
    lines = [title, ["---"] * len(title)]
    means = pairs.drop(columns="seed").groupby(["task", "ratio"]).mean(numeric_only=True)
    for task, part in means.groupby(level="task"):
        seeds = pairs[pairs["task"] == task]["seed"].nunique()
        cells = [TITLES[str(task)], str(seeds), f"{part['metric/dense_attribution'].mean():.1f}"]
        for ratio in ratios:
            row = part.loc[(task, ratio)]
            random = row["metric/final_random"]
            change = random - row["metric/final_attribution"]
            cells.append(f"{row['metric/final_attribution']:.1f}")
            cells.append(f"{random:.1f} ({signed(change)})")
        lines.append(cells)
    for column, phase in PHASES.items():
        cells = [f"mean, {phase}", "", ""]
        for ratio in ratios:
            part = means.xs(ratio, level="ratio")
            changes = part[f"{column}_random"] - part[f"{column}_attribution"]
            low, high, _ = t_test(changes)
            cells.append(f"{part[f'{column}_attribution'].mean():.1f}")
            cells.append(f"{signed(changes.mean())} ({low:+.1f} to {high:+.1f})")
        lines.append(cells)
    return lines


def draw(pairs: pd.DataFrame) -> Figure:
    """The mean over tasks against the fraction cut: both methods, before and after re-tuning."""
    means = pairs.groupby(["task", "ratio"]).mean(numeric_only=True).groupby("ratio").mean()
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="attention and feed-forward weights cut, %")
    axes.set_title(f"mean score of {pairs['task'].nunique()} tasks", loc="left", fontsize=12)
    for method, colour in COLOURS.items():
        for column, line in LINES.items():
            scores = pd.concat(
                [
                    pd.Series({0.0: means["metric/dense_attribution"].mean()}),
                    means[f"{column}_{method}"],
                ]
            )
            axes.plot(100 * scores.index, scores, line, color=colour, lw=2)
            name = f"{method}, {PHASES[column]}"
            axes.annotate(name, (92, scores.iloc[-1]), color=colour, va="center", fontsize=12)
    axes.set_xlim(-3, 165)
    axes.set_xticks([0, 70, 90])
    axes.tick_params(labelsize=12)
    axes.xaxis.label.set_fontsize(12)
    axes.xaxis.label.set_x(0.3)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    rows = read_pairs()
    print(pipe_rows(table(rows)))
    draw(rows).savefig(Path(__file__).parent / "pictures/controls.png", dpi=150)
