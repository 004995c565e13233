"""``python -m studies.summary``: the summaries in results/, from the rows per job beside them.

``evidence.csv`` and ``baselines.csv`` have a row per job with its commit. This script writes
``tasks.csv`` (means over seeds), ``drops.csv`` (pruned against dense) and ``differences.csv``
(baselines against the default). All scores are percent, all differences points.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skip_exp.report.compare import interval

RESULTS = Path(__file__).parent / "results"
DEFAULT, AGAIN = "default", "dense_continued"
TASKS = {"chose the recipe": ("sst2", "mrpc", "cola"), "did not": ("cr", "mpqa", "sst5")}
WHOLE = ("fine-tuning", "LoRA of the whole backbone")  # nothing pruned: compared at every ratio
LAYERS = {0.52: "3 layers", 0.7: "2 layers", 0.9: "1 layer", 0.95: "1 layer"}
SCORES = ["dense", "pruned", "final"]


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


def main(arguments: Sequence[str] = ()) -> int:
    evidence = pd.read_csv(RESULTS / "evidence.csv")
    baselines = pd.read_csv(RESULTS / "baselines.csv", dtype={"setting": str})
    written = {
        "tasks.csv": pd.concat(
            [tasks(evidence).assign(run="evidence"), tasks(baselines).assign(run="baselines")]
        ),
        "drops.csv": drops(evidence),
        "differences.csv": differences(baselines),
    }
    for name, table in written.items():
        table.to_csv(RESULTS / name, index=False, lineterminator="\n")
    print(f"written: {', '.join(written)} in {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
