"""``python -m skip_exp.report.evidence [FOLDER ...] --development T,T --confirmation T,T``.

What was chosen on some tasks, beside the same on tasks that were looked at once. Writes
``evidence_runs.csv``, a row per finished result, ``evidence_tasks.csv``, its means over seeds, and
``evidence.csv``, a row per ratio and opponent of the default recipe. A FOLDER may be an
``evidence_runs.csv`` of before: what is finished by now is added to it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from skip_exp.errors import SkipError
from skip_exp.report import frame, opponents, recipes, tables
from skip_exp.report.intervals import ABOUT, LIMITS, Difference, correct
from skip_exp.report.opponents import AT, DENSE
from skip_exp.report.recipes import DEFAULT
from skip_exp.report.screens import read_all

RUNS, TASKS, SUMMARY = "evidence_runs.csv", "evidence_tasks.csv", "evidence.csv"
GROUPS = ("development", "confirmation")
# Column, behind the group's name: of `opponents.figures`.
BESIDE = {"speedup": "speed", "crossfit": "crossfit"}
READING = (
    "Points, option - default, validation split, and on the selection slice of the development"
    f" tasks, which alone chose. {ABOUT}. {LIMITS}",
    "default: chosen where the option is worse on select of the development tasks; confirmed where"
    " it is worse on the confirmation tasks, too; tie; beaten. Both verdicts are corrected for all"
    f" rows of their kind. The difference to {DENSE} is the drop: only `better` shows that there"
    " is one.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is nothing to read or the files cannot be written."""
    name = "python -m skip_exp.report.evidence"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    for group in GROUPS:
        what = f"{group} tasks, separated by commas"
        parser.add_argument(f"--{group}", required=True, metavar="TASKS", help=what)
    parser.add_argument("--out", type=Path, default=Path("outputs/evidence"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        groups = _groups(options)
        runs = load(options.folders)
        found = summary(runs, groups)
        texts = {RUNS: runs, TASKS: by_task(runs), SUMMARY: found}
        tables.save({options.out / file: _csv(table) for file, table in texts.items()})
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(tables.console(lines(found)))
    named = dict.fromkeys(name for names in groups.values() for name in names)
    if missing := [name for name in named if name not in set(runs["task"])]:
        console.print(f"No result yet of {', '.join(missing)}.", highlight=False)
    for text in (*READING, f"written: {options.out}/{RUNS}, {TASKS}, {SUMMARY}"):
        console.print(text, highlight=False)
    return 0


def _groups(options: argparse.Namespace) -> dict[str, list[str]]:
    """Tasks by group, as the options name them. Raises SkipError where one is in both."""
    given = {group: getattr(options, group).split(",") for group in GROUPS}
    groups = {g: [name.strip() for name in names if name.strip()] for g, names in given.items()}
    for name in set.intersection(*map(set, groups.values())):
        raise SkipError(f"{name}: a task that chose cannot confirm: name it in one group")
    return groups


def _csv(table: pd.DataFrame) -> str:
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text


def load(folders: Sequence[str]) -> pd.DataFrame:
    """Compact rows of folders of results and of compact files of before.

    Raises:
        SkipError: there is no result at all, or a file cannot be read.
    """
    before = [folder for folder in folders if Path(folder).name == RUNS]
    results = frame.read([folder for folder in folders if folder not in before])
    try:
        parts = [recipes.read(Path(file)) for file in before]
    except (OSError, ValueError) as error:
        raise SkipError(f"{', '.join(before)}: cannot be read: {error}") from error
    if len(results):  # last: a job that was timed again finished when it did
        parts.append(recipes.compact(results, read_all()))
    if not parts:
        raise SkipError(f"no result below {', '.join(folders)}: run a job first")
    return recipes.together(parts)


def by_task(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the compact rows; of scores the standard deviation, too; ``seeds``."""
    same = runs.groupby([name for name in recipes.JOB if name != "seed"] + ["metric"])
    means = same[[*recipes.PERCENT, "speedup"]].mean()
    spread = same[[*recipes.SCORES]].std().add_suffix("_std")
    return means.join(spread).assign(seeds=same.size()).round(2).reset_index()


def summary(runs: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """A row per backbone, ratio and option (`DEFAULT` first, then `DENSE`); points.

    ``groups``: tasks by name of GROUPS. Per group score, pairs (``bare``: without a
    dense_continued), and the difference to the default on validation: mean over tasks, interval
    (``low``, ``high``), by task; of the development tasks the same on select. ``p`` and ``verdict``
    are corrected, of what `standing` goes by.
    """
    found = {group: opponents.figures(runs[runs["task"].isin(groups[group])]) for group in GROUPS}
    chosen = _corrected(found["development"], "select")
    confirmed = _corrected(found["confirmation"], "validation")
    told = []
    for at in found["development"].index.union(found["confirmation"].index):
        here = {group: of.loc[at] for group, of in found.items() if at in of.index}
        row: dict[str, Any] = dict(zip(AT, at, strict=True))
        row["default"] = "" if at[-1] == DEFAULT else standing(chosen.get(at), confirmed.get(at))
        row |= _told("select", chosen.get(at))
        for group in GROUPS:
            of = here.get(group, pd.Series(dtype=object))
            row[f"{group}_score"] = 100 * of.get("validation", np.nan)
            row |= {f"{group}_{name}": of.get(column) for name, column in BESIDE.items()}
            row[f"{group}_bare"] = of.get("bare") if at[-1] == DENSE else None
            is_judged = group == "confirmation"
            row |= _told(group, confirmed.get(at) if is_judged else of.get("validation difference"))
        told.append(row)
    rows = pd.DataFrame(told, columns=None if told else AT).round(4)
    order = rows["option"].map({DEFAULT: 0, DENSE: 1}).fillna(2)
    rows = rows.assign(order=order).sort_values(["backbone", "ratio", "order", "option"])
    return rows.drop(columns="order").reset_index(drop=True)


def standing(chosen: Difference | None, confirmed: Difference | None) -> str:
    """How the default stands to an option: see READING."""
    first, second = (of.verdict if of else "" for of in (chosen, confirmed))
    if "better" in (first, second):
        return "beaten"
    if first != "worse":
        return "tie" if first == "tie" else "-"
    return {"worse": "confirmed", "tie": "not confirmed"}.get(second, "chosen")


def _corrected(found: pd.DataFrame, split: str) -> dict[Any, Difference]:
    if found.empty:
        return {}
    asked = found[f"{split} difference"].dropna()
    return {at: of for at, of in zip(asked.index, correct(asked.to_list()), strict=True) if of}


def _told(name: str, difference: Difference | None) -> dict[str, Any]:
    """Columns of one difference, in points; empty where there is none."""
    of = difference if isinstance(difference, Difference) else None
    low, high = of.interval if of and of.interval else (np.nan, np.nan)
    by_task = of.tasks.items() if of else ()
    return {
        f"{name}_pairs": of.n if of else 0,
        name: 100 * of.mean if of else np.nan,
        f"{name}_low": 100 * low,
        f"{name}_high": 100 * high,
        f"{name}_p": of.corrected if of else None,
        f"{name}_verdict": of.verdict if of and of.corrected is not None else "",
        f"{name}_by_task": ", ".join(f"{task} {100 * mean:+.2f}" for task, mean in by_task),
    }


def lines(found: pd.DataFrame) -> pd.DataFrame:
    """The summary as text, both groups side by side."""
    if found.empty:
        return pd.DataFrame()

    def points(name: str) -> list[str]:
        values = found[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        return [
            "-"
            if np.isnan(mean)
            else f"{mean:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")
            for mean, low, high in values
        ]

    columns = {"backbone": found["backbone"], "ratio": found["ratio"].map("{:g}".format)}
    columns |= {"option": found["option"], "default is": found["default"]}
    columns |= {"select": points("select")}
    columns |= {group: points(group) for group in GROUPS}
    return pd.DataFrame(columns)


if __name__ == "__main__":
    sys.exit(main())
