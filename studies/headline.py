"""Compute the tables of README.md and docs/results.md from the rows, one per job.

Print them with ``python -m studies.headline``; a test holds the pages to them.

Scores are each task's main metric on validation. MPQA is left out: over a quarter of its validation
texts are also train texts. So is TREC-QA, whose dense model is below the constant answer *yes*.
"""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "studies/results/evidence.csv"
BASELINES = ROOT / "studies/results/baselines.csv"
TASKS = {"sst2": "SST-2", "cr": "CR", "sst5": "SST-5", "mrpc": "MRPC", "cola": "CoLA"}
RATIOS = (0.52, 0.7, 0.9, 0.95)
T_FOUR = 2.776  # 97.5 % quantile of Student's t, four degrees of freedom: five tasks
UNCUT = {  # recipe -> the learning rate that seed 1 chose on the selection slice, by task
    "LoRA": dict(zip(TASKS, ("0.001", "0.001", "0.001", "0.002", "0.001"), strict=True)),
    "fine-tuning": dict(zip(TASKS, ("0.0001", "0.0001", "5e-05", "0.0001", "5e-05"), strict=True)),
}
NAMES = {  # the end of a recipe in the rows -> its name in the table
    "paper's attribution, 20 texts": "attribution of the paper",
    "magnitude": "magnitude",
    "depth": "upper layers removed",
    "random": "random neurons",
    "paper's recipe": "recipe of the paper",
}
Table = list[list[str]]


def frame(path: Path) -> pd.DataFrame:
    """The rows of one file on the tasks that count."""
    rows = pd.read_csv(path, dtype={"setting": str})
    return rows[rows.task.isin(TASKS)]


def uncut(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of LoRA or fine-tuning of the whole backbone, at the chosen learning rates."""
    recipe = {"LoRA": "LoRA of the whole backbone", "fine-tuning": "fine-tuning"}[name]
    part = rows[rows.recipe.str.endswith(recipe)]
    return part[part.setting == part.task.map(UNCUT[name])]


def scores(rows: pd.DataFrame, column: str = "final") -> list[str]:
    """One cell a task, mean and standard deviation over seeds, then the mean over tasks."""
    by_task = rows.groupby("task")[column].agg(["mean", "std"]).reindex(list(TASKS))
    cells = [f"{mean:.1f} ± {std:.1f}" for mean, std in by_task.itertuples(index=False)]
    return [*cells, f"{by_task['mean'].mean():.1f}"]


def minilm() -> Table:
    """Absolute scores by task and ratio, beside what LoRA and fine-tuning reach uncut."""
    every = frame(ROWS).query("backbone == 'minilm'")
    rows = every[every.recipe == "default"]
    table = [["removed", *TASKS.values(), "mean"]]
    table += [["none", *scores(rows[rows.ratio == RATIOS[0]], "dense")]]
    table += [["none, 3 epochs more", *scores(every[every.recipe == "dense_continued"])]]
    table += [[f"{100 * ratio:.0f} %", *scores(rows[rows.ratio == ratio])] for ratio in RATIOS]
    return table + [[f"none, {name}", *scores(uncut(frame(BASELINES), name))] for name in UNCUT]


def others() -> Table:
    """The embedded RoBERTa and T5: dense, and after both ratios that were run."""
    rows = frame(ROWS).query("backbone != 'minilm' and recipe == 'default'")
    table = [["backbone", "task", "dense", "52 %", "90 %"]]
    for (backbone, task), part in rows.groupby(["backbone", "task"]):
        cells = [part[part.ratio == 0.9]["dense"]]
        cells += [part[part.ratio == ratio]["final"] for ratio in (0.52, 0.9)]
        shown = [f"{each.mean():.1f} ± {each.std():.1f}" for each in cells]
        table.append([str(backbone), TASKS[str(task)], *shown])
    return table


def differences(rows: pd.DataFrame, default: pd.DataFrame) -> str:
    """Mean over tasks of rows - default in points, and how many pairs are behind."""
    pairs = rows.merge(default, on=["task", "seed"], suffixes=("", "_default"))
    points = pairs["final"] - pairs["final_default"]
    mean = points.groupby(pairs["task"]).mean().mean()
    return f"{mean:+.1f} ({(points < 0).sum()} of {len(pairs)})"


def baselines() -> Table:
    """Each baseline against the default at every ratio: paired by task and seed."""
    rows = frame(BASELINES).query("backbone.str.startswith('minilm')")
    table = [["baseline", *(f"{100 * ratio:.0f} %" for ratio in RATIOS)]]
    found = {name: rows[rows.recipe.str.endswith(end)] for end, name in NAMES.items()}
    for name, part in (found | {f"{name}, uncut": uncut(rows, name) for name in UNCUT}).items():
        cells = []
        for ratio in RATIOS:
            default = rows[(rows.recipe == "default") & (rows.ratio == ratio)]
            at = part if name.endswith("uncut") else part[part.ratio == ratio]
            cells.append(differences(at, default))
        table.append([name, *cells])
    return table


def drops() -> Table:
    """Dense - final over the five tasks: mean, and the 95 % t-interval over tasks."""
    rows = frame(ROWS).query("backbone == 'minilm' and recipe == 'default'")
    table = [["removed", "drop", "from", "to"]]
    for ratio, part in rows.groupby("ratio"):
        drop = (part["dense"] - part["final"]).groupby(part["task"]).mean()
        half = T_FOUR * drop.std() / len(drop) ** 0.5
        shown = (drop.mean(), drop.mean() - half, drop.mean() + half)
        table.append([f"{100 * float(str(ratio)):.0f} %", *(f"{each:+.1f}" for each in shown)])
    return table


def lines(table: Table) -> list[str]:
    """The rows of a Markdown table."""
    head, *body = table
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


if __name__ == "__main__":
    print("\n\n".join("\n".join(lines(each())) for each in (minilm, drops, others, baselines)))
