"""``python -m studies.summary``: the summaries in results/ and the tables of the pages.

``evidence.csv`` and ``baselines.csv`` have a row per job with its commit. This script writes
``tasks.csv`` (means over seeds), ``drops.csv`` (pruned against dense) and ``differences.csv``
(baselines against the default). It prints the tables of studies/results.md and the last one of
docs/results.md, and a test compares the pages with them. All scores are percent, all differences
points.

The printed tables leave out MPQA: over a quarter of its validation texts are also train texts. They
leave out TREC-QA, whose dense model is below the constant answer *yes*.
"""

import sys
from pathlib import Path

import pandas as pd

from skip_exp.report.compare import interval

RESULTS = Path(__file__).parent / "results"
DEFAULT, AGAIN = "default", "dense_continued"
TASKS = {"chose the recipe": ("sst2", "mrpc", "cola"), "did not": ("cr", "mpqa", "sst5")}
WHOLE = ("fine-tuning", "LoRA of the whole backbone")  # nothing pruned: compared at every ratio
LAYERS = {0.52: "3 layers", 0.7: "2 layers", 0.9: "1 layer", 0.95: "1 layer"}
SCORES = ["dense", "pruned", "final"]
ROOT = Path(__file__).resolve().parents[1]
SHOWN = {"sst2": "SST-2", "cr": "CR", "sst5": "SST-5", "mrpc": "MRPC", "cola": "CoLA"}
RATIOS = (0.52, 0.7, 0.9, 0.95)
UNCUT = {  # recipe -> the learning rate that seed 1 chose on the selection slice, by task
    "LoRA": dict(zip(SHOWN, ("0.001", "0.001", "0.001", "0.002", "0.001"), strict=True)),
    "fine-tuning": dict(zip(SHOWN, ("0.0001", "0.0001", "5e-05", "0.0001", "5e-05"), strict=True)),
}
NAMES = {  # the end of a recipe in the rows -> its name in the table
    "paper's attribution, 20 texts": "attribution of the paper",
    "magnitude": "magnitude",
    "depth": "upper layers removed",
    "random": "random neurons",
    "paper's recipe": "recipe of the paper",
}
Table = list[list[str]]


def tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of every task, backbone, ratio, recipe and setting."""
    rows = rows.assign(setting=rows["setting"].astype(object).fillna(""))
    at = ["backbone", "task", "ratio", "recipe", "setting", "metric"]
    groups = rows.groupby(at)
    means = groups[["all_removed", "select", *SCORES]].mean()
    spread = groups[SCORES].std().add_suffix("_std")
    return means.join(spread).assign(seeds=groups.size()).round(2).reset_index()


def drops(rows: pd.DataFrame) -> pd.DataFrame:
    """Final score of the default against dense, and against dense re-tuned, per group of tasks."""
    ours = rows[(rows["recipe"] == DEFAULT) & (rows["ratio"] > 0)]
    job = ["backbone", "task", "seed"]
    again = rows.loc[rows["recipe"] == AGAIN, [*job, "final"]]
    ours = ours.merge(again.rename(columns={"final": AGAIN}), how="left", on=job)
    told = []
    for (backbone, ratio), group in ours.groupby(["backbone", "ratio"]):
        for name, names in TASKS.items():
            part = group[group["task"].isin(names)]
            for against in ("dense", AGAIN):
                if len(part):
                    row = _difference(part[against] - part["final"], part["task"])
                    told.append(
                        {"backbone": backbone, "ratio": ratio, "tasks": name, "against": against}
                        | row
                    )
    return pd.DataFrame(told)


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Final score of every baseline against the default's, all tasks, on validation."""
    told = []
    for ratio in sorted(rows.loc[rows["recipe"] == DEFAULT, "ratio"].unique()):
        here = pd.concat([rows[rows["ratio"] == ratio], _dense_ones(rows, ratio)])
        default = here.loc[here["recipe"] == DEFAULT, ["task", "seed", "final"]]
        for recipe, other in here.groupby("recipe"):
            pairs = other.merge(default, on=["task", "seed"], suffixes=("", " default"))
            if recipe != DEFAULT and pairs["task"].nunique() > 1:
                row = _difference(pairs["final"] - pairs["final default"], pairs["task"])
                told.append({"ratio": ratio, "baseline": recipe} | row)
    return pd.DataFrame(told)


def _dense_ones(rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """Dense models: trained whole, each at its best rate; smaller, by layers for this ratio."""
    smaller = rows[(rows["ratio"] == 0) & (rows["setting"] == LAYERS[ratio])]
    whole = [best_setting(part) for _, part in rows[rows["recipe"].isin(WHOLE)].groupby("recipe")]
    return pd.concat([smaller, *whole])


def best_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """Per task the setting with the best mean on select, over the seeds that all settings have."""
    parts = []
    for _, task in rows.groupby("task"):
        every = task["setting"].nunique()
        shared = task.groupby("seed")["setting"].transform("nunique") == every
        means = task[shared].groupby("setting")["select"].mean()
        parts.append(task[task["setting"] == means.idxmax()])
    return pd.concat(parts)


def _difference(values: pd.Series, tasks: pd.Series) -> dict[str, object]:
    """Mean over tasks of the means over seeds, its t-interval over tasks, and every task."""
    means = values.groupby(tasks).mean()
    low, high = interval(means)
    by_task = ", ".join(f"{task} {mean:+.1f}" for task, mean in means.items())
    numbers = {"mean": means.mean(), "low": low, "high": high}
    rounded = {name: round(number, 2) for name, number in numbers.items()}
    return {"pairs": len(values), **rounded, "by_task": by_task}


def read(name: str) -> pd.DataFrame:
    """The rows of one file on the tasks that count."""
    rows = pd.read_csv(RESULTS / f"{name}.csv", dtype={"setting": str})
    return rows[rows.task.isin(SHOWN)]


def spread(scores: pd.Series) -> str:
    """Mean ± standard deviation over seeds, which one seed does not have."""
    deviation = f" ± {scores.std():.1f}" if len(scores) > 1 else ""
    return f"{scores.mean():.1f}{deviation}"


def uncut(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of LoRA or fine-tuning of the whole backbone, at the chosen learning rates."""
    recipe = {"LoRA": "LoRA of the whole backbone", "fine-tuning": "fine-tuning"}[name]
    part = rows[rows.recipe.str.endswith(recipe)]
    return part[part.setting == part.task.map(UNCUT[name])]


def scores(rows: pd.DataFrame, column: str = "final") -> list[str]:
    """One cell a task, mean and standard deviation over seeds, then the mean over tasks."""
    by_task = rows.groupby("task")[column]
    cells = [spread(by_task.get_group(task)) for task in SHOWN]
    return [*cells, f"{by_task.mean().mean():.1f}"]


def minilm() -> Table:
    """Absolute scores by task and ratio, beside what LoRA and fine-tuning reach uncut."""
    every = read("evidence").query("backbone == 'minilm'")
    rows = every[every.recipe == "default"]
    table = [["removed", *SHOWN.values(), "mean"]]
    table += [["none", *scores(rows[rows.ratio == RATIOS[0]], "dense")]]
    table += [["none, 3 epochs more", *scores(every[every.recipe == "dense_continued"])]]
    table += [[f"{100 * ratio:.0f} %", *scores(rows[rows.ratio == ratio])] for ratio in RATIOS]
    return table + [[f"none, {name}", *scores(uncut(read("baselines"), name))] for name in UNCUT]


def others() -> Table:
    """The embedded RoBERTa and T5: dense, and after both ratios that were run."""
    rows = read("evidence").query("backbone != 'minilm' and recipe == 'default'")
    table = [["backbone", "task", "dense", "52 %", "90 %"]]
    for (backbone, task), part in rows.groupby(["backbone", "task"]):
        cells = [part[part.ratio == 0.9]["dense"]]
        cells += [part[part.ratio == ratio]["final"] for ratio in (0.52, 0.9)]
        table.append([str(backbone), SHOWN[str(task)], *map(spread, cells)])
    return table


def against(rows: pd.DataFrame, default: pd.DataFrame) -> str:
    """Mean over tasks of rows - default in points, and how many pairs are behind."""
    pairs = rows.merge(default, on=["task", "seed"], suffixes=("", "_default"))
    points = pairs["final"] - pairs["final_default"]
    mean = points.groupby(pairs["task"]).mean().mean()
    return f"{mean:+.1f} ({(points < 0).sum()} of {len(pairs)})"


def baselines() -> Table:
    """Each baseline against the default at every ratio: paired by task and seed."""
    rows = read("baselines").query("backbone.str.startswith('minilm')")
    table = [["baseline", *(f"{100 * ratio:.0f} %" for ratio in RATIOS)]]
    found = {name: rows[rows.recipe.str.endswith(end)] for end, name in NAMES.items()}
    for name, part in (found | {f"{name}, uncut": uncut(rows, name) for name in UNCUT}).items():
        cells = []
        for ratio in RATIOS:
            default = rows[(rows.recipe == "default") & (rows.ratio == ratio)]
            at = part if name.endswith("uncut") else part[part.ratio == ratio]
            cells.append(against(at, default))
        table.append([name, *cells])
    return table


def mean_drops() -> Table:
    """Dense - final over the five tasks: mean, and the 95 % t-interval over tasks."""
    rows = read("evidence").query("backbone == 'minilm' and recipe == 'default'")
    table = [["removed", "drop", "from", "to"]]
    for ratio, part in rows.groupby("ratio"):
        drop = (part["dense"] - part["final"]).groupby(part["task"]).mean()
        shown = (drop.mean(), *interval(drop))
        table.append([f"{100 * float(str(ratio)):.0f} %", *(f"{each:+.1f}" for each in shown)])
    return table


def compressed() -> Table:
    """Fine-tuned classifiers cut by `skip_exp.compress`: before, and after every ratio."""
    rows = pd.read_csv(RESULTS / "compress.csv")
    table = [["task", "fine-tuned", *(f"{100 * ratio:.0f} %" for ratio in RATIOS[:3])]]
    for task, part in rows.groupby("task"):
        shown = [part[part.ratio == RATIOS[0]]["metric/dense"]]
        shown += [part[part.ratio == ratio]["metric/final"] for ratio in RATIOS[:3]]
        table.append([SHOWN[str(task)], *map(spread, shown)])
    return table


def lines(table: Table) -> list[str]:
    """The rows of a Markdown table."""
    head, *body = table
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


def main() -> int:
    """Write the summaries and print the tables."""
    evidence = pd.read_csv(RESULTS / "evidence.csv")
    compared = pd.read_csv(RESULTS / "baselines.csv", dtype={"setting": str})
    written = {
        "tasks.csv": pd.concat(
            [tasks(evidence).assign(run="evidence"), tasks(compared).assign(run="baselines")]
        ),
        "drops.csv": drops(evidence),
        "differences.csv": differences(compared),
    }
    for name, table in written.items():
        table.to_csv(RESULTS / name, index=False, lineterminator="\n")
    tables = (minilm, mean_drops, others, baselines, compressed)
    print("\n\n".join("\n".join(lines(table())) for table in tables))
    print(f"written: {', '.join(written)} in {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
