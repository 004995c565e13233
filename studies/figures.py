"""The figures of README and docs/results.md, from rows: cuts, random neurons, what else there is.

Every function reads MiniLM's rows in ``results``. A *change* is the final score less the dense
model's of the same seed; means are over the seeds of a task first, then over tasks.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skip_exp.commands.compare import t_test
from skip_exp.within.choose import Cut
from studies.evidence import DEVELOPMENT, RESULTS, TITLES, signed
from studies.frontier import read_times

CUTS = (0.52, 0.7, 0.9)
KEYS = ["task", "seed", "ratio"]
PHASES = {"metric/pruned": "before re-tuning", "metric/final": "re-tuned"}
FINAL = "metric/final"
# The contrastive term is off where a batch lacks four texts of each label.
MANY_LABELS = ("banking77", "clinc150")
PAIRS = {"skip": ("skip", "controls"), "strong": ("few", "controls_strong")}
CONTROL_ROWS = 1000  # train rows of strong beside random neurons
METHODS = {"first_order": "first-order Taylor", "magnitude": "magnitude", "random": "random"}
SIDES = {"attribution": ("attribution", "#3d5a80"), "control": ("random", "#b5532d")}
LINES = {"metric/pruned": "o--", "metric/final": "o-"}


def read_rows(name: str) -> pd.DataFrame:
    """The rows of a file, with the change that re-tuned cuts make.

    ``strong`` has today's recipe: contrast.csv, and of strong.csv the tasks without the term.
    """
    if name == "strong":
        rows = read_rows("strong_before").query("task in @MANY_LABELS")
        return pd.concat([read_rows("contrast"), rows], ignore_index=True)
    name = name.removesuffix("_before")
    rows = pd.read_csv(RESULTS / f"{name}.csv").query("backbone == 'minilm'")
    if name == "strong":
        rows = rows[rows["ratio"].isin(CUTS)]
    return rows.assign(change=rows[FINAL] - rows["metric/dense"])


def average(rows: pd.DataFrame, tasks: list[str], ratio: float, column: str = "change") -> float:
    """Mean over tasks of the mean over seeds; ratio 0 is the dense model. NaN: a task lacks it."""
    if ratio == 0:
        means = rows.groupby(["task", "seed"])["metric/dense"].first().groupby("task").mean()
    else:
        means = rows[rows["ratio"] == ratio].groupby("task")[column].mean()
    return means.reindex(tasks).mean(skipna=False)


def list_tasks(*files: pd.DataFrame) -> list[str]:
    """The development tasks that all files have."""
    return [task for task in DEVELOPMENT if all(task in set(rows["task"]) for rows in files)]


def summarize() -> list[list[str]]:
    """README's table: mean scores of dense models, and what cuts change; ms by processor."""
    head = ["MiniLM-L6", "uncut", *(f"{100 * cut:.0f} % cut" for cut in CUTS)]
    lines = [head, ["---"] * len(head)]
    names = {"skip": "`skip`", "controls": "random neurons in its place", "strong": "`strong`"}
    for recipe, name in names.items():
        rows = read_rows(recipe)
        if recipe == "controls":
            rows = rows[rows["attribution"] == "random"]
        cells = [f"{average(rows, list_tasks(rows), 0):.1f}"]
        for cut in CUTS:
            change = average(rows, list_tasks(rows), cut)
            cells.append("" if pd.isna(change) else signed(change))
        lines.append([name, *cells])
    times = read_times().loc[["uncut", *(str(Cut(cut)) for cut in CUTS)]]
    cells = [" / ".join(map("{:.1f}".format, ms)) for ms in times.to_numpy()]
    return [*lines, [f"8 bits, ms a text, {' / '.join(times)}", *cells]]


def read_pairs(recipe: str, method: str = "random") -> pd.DataFrame:
    """The jobs that attribution and a control both have: ``..._attribution``, ``..._control``.

    Both cut the same dense models and are re-tuned alike.
    """
    ours, control = map(read_rows, PAIRS[recipe])
    control = control[control["attribution"] == method]
    if recipe == "strong":
        ours = ours[(ours["train_rows"] == CONTROL_ROWS) & ours["layers"].isna()]
    pairs = ours.merge(control, on=KEYS, suffixes=("_attribution", "_control"))
    return pairs[pairs["task"].isin(DEVELOPMENT)]


def compare(pairs: pd.DataFrame) -> list[list[str]]:
    """By task, in the mean over seeds: final scores of both; then the means over tasks.

    The interval is a 95 % t-interval over tasks.
    """
    ratios = sorted(set(pairs["ratio"]))
    title = ["re-tuned", "seeds", "uncut"]
    for ratio in ratios:
        title += [f"{100 * ratio:.0f} %", "random"]
    lines = [title, ["---"] * len(title)]
    means = pairs.groupby(["task", "ratio"]).mean(numeric_only=True)
    for task in TITLES:
        if task not in means.index.levels[0]:
            continue
        seeds = pairs[pairs["task"] == task]["seed"].nunique()
        part = means.loc[task]
        cells = [TITLES[task], str(seeds), f"{part['metric/dense_attribution'].mean():.1f}"]
        for ratio in ratios:
            ours, random = part.loc[ratio, [f"{FINAL}_attribution", f"{FINAL}_control"]]
            cells += [f"{ours:.1f}", f"{random:.1f} ({signed(random - ours)})"]
        lines.append(cells)
    for column, phase in PHASES.items():
        cells = [f"mean, {phase}", "", ""]
        for ratio in ratios:
            ours = means.xs(ratio, level="ratio")[f"{column}_attribution"].mean()
            cells += [f"{ours:.1f}", lose(pairs, ratio, column)]
        lines.append(cells)
    return lines


def lose(pairs: pd.DataFrame, ratio: float, column: str = FINAL) -> str:
    """What a control changes in the mean over tasks, with a 95 % t-interval over tasks."""
    means = pairs[pairs["ratio"] == ratio].groupby("task").mean(numeric_only=True)
    changes = means[f"{column}_control"] - means[f"{column}_attribution"]
    low, high, _ = t_test(changes)
    return f"{signed(changes.mean())} ({low:+.1f} to {high:+.1f})"


def compare_methods() -> list[list[str]]:
    """What each method of METHODS changes, re-tuned, in the default's place: seed 1.

    The mean of a recipe is over the tasks that all methods have.
    """
    lines = [["in its place"], ["---"], *([title] for title in METHODS.values())]
    for recipe in PAIRS:
        pairs = [read_pairs(recipe, method).query("seed == 1") for method in METHODS]
        tasks = list_tasks(*pairs)
        lines[0] += [f"`{recipe}`, {len(tasks)} tasks, 70 %", "90 %"]
        lines[1] += ["---"] * 2
        for cells, rows in zip(lines[2:], pairs, strict=True):
            rows = rows.query("task in @tasks")
            cells += [lose(rows, 0.7), lose(rows, 0.9)]
    return lines


def gain(new: str, old: str) -> list[str]:
    """What one file's scores are above another's, on tasks and seeds of both: dense, then cuts."""
    both = read_rows(new).merge(read_rows(old), on=KEYS, suffixes=("_new", "_old"))
    means = both.groupby(["task", "ratio"]).mean(numeric_only=True)
    ahead = []
    for column in ("metric/dense", FINAL):
        ahead.append(means[f"{column}_new"] - means[f"{column}_old"])
    cuts = ahead[1].unstack().mean()
    return [signed(ahead[0].groupby("task").first().mean()), *map(signed, cuts)]


def draw() -> Figure:
    """The mean over tasks against the fraction cut: a panel per recipe, both choices of neurons."""
    figure = Figure(figsize=(5.2, 3.2 * len(PAIRS)), layout="constrained")
    panels = figure.subplots(len(PAIRS), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, recipe in zip(panels, PAIRS, strict=True):
        draw_panel(axes, recipe)
    panels[-1].set_xlabel("attention and feed-forward weights cut, %", fontsize=12, loc="left")
    return figure


def draw_panel(axes: Axes, recipe: str) -> None:
    """Lines of one recipe, each named beside its end."""
    pairs = read_pairs(recipe)
    tasks = sorted(set(pairs["task"]))
    rows = "" if recipe == "skip" else f", {CONTROL_ROWS:,} train rows"
    axes.set_title(f"{recipe}{rows}: mean score of {len(tasks)} tasks, %", loc="left", fontsize=12)
    means = pairs.groupby(["task", "ratio"]).mean(numeric_only=True).groupby("ratio").mean()
    for side, (method, colour) in SIDES.items():
        for column, phase in PHASES.items():
            line = means[f"{column}_{side}"]
            dense = means[f"metric/dense_{side}"].iloc[0]
            cuts = [0, *(100 * line.index)]
            axes.plot(cuts, [dense, *line], LINES[column], color=colour, lw=2)
            moved = 1.2 if side == "attribution" else -1.2  # labels that would touch
            place = (93, line.iloc[-1] + moved)
            axes.annotate(f"{method}, {phase}", place, color=colour, va="center", fontsize=12)
    axes.set_xlim(-3, 186)
    axes.margins(y=0.1)
    axes.set_xticks([0, 70, 90])
    axes.tick_params(labelsize=12, labelbottom=True)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
