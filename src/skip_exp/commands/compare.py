"""Compare settings: pair the results that differ in one key alone.

Examples:

    skip-exp compare outputs --by attribution      # all, against the one with most results
    skip-exp compare outputs --by attribution=random,activation_gradient
    skip-exp compare outputs --by prune.sites=[ffn],[ffn,heads]

A table has every task's scores, the mean difference with its 95 % interval, and the number of
pairs. KEY may be a group, such as attribution or retune: then everything in it may differ. The
first value is the baseline; without values it is the one with most results. Scores are those of
the selection slice, on which settings are chosen; --split validation takes the reported ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy  # loads its parts when they are used: --help needs none
import yaml
from rich.console import Group

from skip_exp.commands.line import add_folders, one_line_errors, parser
from skip_exp.config.compose import choices
from skip_exp.config.together import values_of
from skip_exp.errors import SkipError
from skip_exp.outcomes.scores import DRAWS, interval, resample
from skip_exp.report import frame
from skip_exp.report.cells import SEARCHED, ratio_text
from skip_exp.report.frame import PREFIX, name_values
from skip_exp.report.tables import SAMPLE, console, percent, points
from skip_exp.results import PREDICTIONS
from skip_exp.utils.console import open_screen

SPLITS = {"select": "select/final", "validation": "metric/final"}  # with the scores' column
RATIO = "prune.ratio"  # its column is `ratio`
APART = ["backbone", "ratio"]  # each has a table of its own, unless it is compared
PAIRED = ["task", "metric", "backbone", "ratio", "attribution", "seed"]  # and every setting
TESTED = ["low", "high", "p", "over"]
MEAN = "mean"  # in the column `task`: over the tasks
NOTE = (
    "Scores of final models (--split {split}), in percent. The mean counts every task once, without"
    " stand-ins. Its 95 % interval and p are those of a paired t-test over the tasks; {task}."
)
TASK_NOTES = {
    "select": "those of a task, over its pairs",
    "validation": f"those of a task, over its rows, resampled {DRAWS:,} times for all its models"
    " alike (without stored predictions: over its pairs)",
}
MIXED = "{} pairs: code or libraries of the two sides differ. Run the older jobs again."


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where nothing can be compared."""
    line = parser("compare", __doc__)
    add_folders(line)
    line.add_argument(
        "--by", required=True, metavar="KEY[=A,B]", help="key or group to compare, and its values"
    )
    line.add_argument("--split", choices=SPLITS, default="select", help="whose scores")
    options = line.parse_intermixed_args(arguments)
    key, _, text = options.by.partition("=")
    values = choices(text) if text else []
    rows = compare(frame.load(options.folders), key, values, options.split)
    screen = open_screen()
    for table in make_tables(rows):
        screen.print(table, "")
    for note in notes(rows, options.split):
        print(note)
    return 0


def compare(
    results: pd.DataFrame, by: str, values: Sequence[str] = (), split: str = "select"
) -> pd.DataFrame:
    """Every other value of a key against a baseline value, a row per task and their mean.

    Two results are a pair where they agree in every key but the compared one.

    Args:
        results: from `frame.load`.
        by: a key such as ``prune.sites``, or a group such as ``attribution``.
        values: the first is the baseline; none: all, against the one with most results.
        split: whose scores: ``select`` or ``validation``.

    Returns:
        Columns baseline, option, backbone and ratio (unless compared), task, metric, pairs, mixed
        (pairs whose two sides are of different code), baseline_score, option_score, difference,
        low, high, p and over (what these three are over); fractions, not percent.

    Raises:
        SkipError: no such key or value, or no two results that differ in it alone.
    """
    done = _select(results, by, SPLITS[split])
    keys = PAIRED + [name for name in done if name.startswith(PREFIX)]
    compared = [name for name in keys if _is_of(name, by)]
    if not compared:
        differ = [name.removeprefix(PREFIX) for name in keys if done[name].nunique() > 1]
        raise SkipError(
            f"--by {by}: no such key in these results; "
            f"keys that differ: {', '.join(differ) or 'none'}"
        )
    done = done.assign(option=_name_options(done, by, compared))
    options = _choose(done["option"], by, values)
    baseline = options[0]
    # Two sides that agree in all other keys are a pair; of a repeated job its latest run counts.
    shared = [name for name in keys if name not in compared]
    apart = [name for name in APART if name in shared]
    sides = {}
    for option, rows in done.groupby("option"):
        sides[option] = rows.drop_duplicates(shared, keep="last")
    parts = []
    for option in options[1:]:
        pairs = sides[baseline].merge(sides[option], on=shared, suffixes=(None, " of option"))
        for labels, group in pairs.groupby(apart):
            part = _summarize(group, split)
            columns = {"baseline": baseline, "option": option}
            columns |= dict(zip(apart, labels, strict=True))
            parts.append(pd.DataFrame(columns, index=part.index).join(part))
    if not parts:
        raise SkipError(f"--by {by}: no two results differ in {by} alone")
    return pd.concat(parts, ignore_index=True)


def _select(results: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """Finished results with their ``score``; the task of stand-in rows says so."""
    done = results[results["status"] == "done"].dropna(subset=["seed", column])
    if done.empty:
        raise SkipError(f"--by {by}: no finished result has a score")
    tasks = done["task"].mask(done["sample"], done["task"] + f" ({SAMPLE})")
    ratios = done["ratio"].mask(done["searched"], SEARCHED).map(ratio_text)
    return done.rename(columns={column: "score"}).assign(task=tasks, ratio=ratios)


def _is_of(column: str, by: str) -> bool:
    """Whether a column is the key ``by``, or one of its group."""
    key = RATIO if column == "ratio" else column.removeprefix(PREFIX)
    return key == by or column.startswith(f"{PREFIX}{by}.")


def _name_options(results: pd.DataFrame, by: str, compared: list[str]) -> pd.Series:
    """The value of a key per result, as text; of a group its choice and what differs within it."""
    if compared == [PREFIX + by] or by == RATIO:
        return results[compared[0]].map(_plain)
    typed = results["path"].map(lambda path: _read_choice(path, by))
    names = typed.where(typed != "", results[by]) if by in results else typed
    # Two results of one choice may differ within the group: then their options do, too.
    settings = [key for key in compared if key.startswith(PREFIX)]
    parts = []
    for name, part in results.groupby(names):
        differing = [key for key in settings if part[key].nunique() > 1]
        texts = [f"{name}, {text}".strip(", ") for text in name_values(part[differing])]
        parts.append(pd.Series(texts, index=part.index, dtype=object))
    return pd.concat(parts)


def _read_choice(path: str, group: str) -> str:
    """What a job's command chose of a group: ``wanda`` of ``attribution=wanda``.

    Nothing where it chose none, or put an own function in its place.
    """
    try:
        text = (Path(path).parent / ".hydra/overrides.yaml").read_text(encoding="utf-8")
    except OSError:
        return ""
    values = values_of(yaml.safe_load(text) or [])
    return "" if f"{group}._target_" in values else values.get(group, "")


def _plain(value: Any) -> str:
    """One text for what YAML, Hydra and Python write differently: ``[a,b]``, ``1e-3``, ``null``."""
    text = str(value).strip("[]").replace(", ", ",").replace(",", "+")
    try:
        return f"{float(text):g}"
    except ValueError:
        return {"true": "True", "false": "False", "null": "None"}.get(text, text)


def _choose(column: pd.Series, by: str, values: Sequence[str]) -> list[str]:
    """The options of a column that ``values`` name; without any, all, the most frequent first.

    Raises:
        SkipError: no result has one of them, or there is no second one.
    """
    known = column[column != ""].value_counts()
    listed = "; ".join(known.index)
    options = {_plain(option): option for option in known.index}
    chosen = []
    for value in values:
        if _plain(value) not in options:
            raise SkipError(f"--by {by}={value}: no result; there are: {listed}")
        chosen.append(options[_plain(value)])
    chosen = chosen or list(known.index)
    if len(chosen) < 2:
        raise SkipError(f"--by {by}: needs two values; the results have: {listed}")
    return chosen


def _summarize(pairs: pd.DataFrame, split: str) -> pd.DataFrame:
    """A row per task and, of several, that of their mean."""
    codes = pairs[["versions/code", "versions/code of option"]]
    is_mixed = (codes.nunique(axis=1) > 1) & (codes != "").all(axis=1)
    pairs = pairs.assign(difference=pairs["score of option"] - pairs["score"], mixed=is_mixed)
    # Every task counts once in the mean, however many pairs it has.
    groups = pairs.groupby("task")
    tasks = groups.agg(
        metric=("metric", "first"),
        pairs=("seed", "size"),
        mixed=("mixed", "sum"),
        baseline_score=("score", "mean"),
        option_score=("score of option", "mean"),
        difference=("difference", "mean"),
    ).reset_index()
    tests = []
    for _, group in groups:
        over_rows = bootstrap_rows(group) if split == "validation" else None
        low, high, p = over_rows or t_test(group["difference"])
        tests.append((low, high, p, "rows" if over_rows else "pairs"))
    tasks[TESTED] = tests
    real = tasks[~groups["sample"].first().to_numpy()]  # a stand-in is no score of the task
    if len(real) < 2:
        return tasks
    mean = real.mean(numeric_only=True).to_dict() | real[["pairs", "mixed"]].sum().to_dict()
    low, high, p = t_test(real["difference"])
    mean |= {"task": MEAN, "metric": "", "low": low, "high": high, "p": p, "over": "tasks"}
    return pd.concat([tasks, pd.DataFrame([mean])], ignore_index=True)


def t_test(differences: Sequence[float] | pd.Series) -> tuple[float, float, float]:
    """The 95 % t-interval of their mean, and p; NaN unless two of them differ."""
    if np.ptp(differences) < 1e-9:
        return np.nan, np.nan, np.nan
    test = scipy.stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval(0.95)
    return float(low), float(high), float(test.pvalue)


def bootstrap_rows(pairs: pd.DataFrame) -> tuple[float, float, float] | None:
    """The 95 % interval of a task's difference over its validation rows, without a p.

    Returns:
        None where predictions are missing, or not of the same rows.
    """
    tables = []
    for path in pairs["path"].tolist() + pairs["path of option"].tolist():
        table = _read_answers(path)
        if table is None:
            return None
        tables.append(table)
    true = tables[0]["label"].to_numpy()
    answers = []
    for table in tables:
        if len(true) < 2 or not np.array_equal(true, table["label"]):
            return None
        answers.append(table["predicted"].to_numpy())
    classes = 1 + int(max(true.max(), np.max(answers)))
    draws = resample(pairs["metric"].iloc[0], answers, true, classes)
    # The baseline's answers come first, as many as the option's.
    low, high = interval(draws[len(pairs) :].mean(0) - draws[: len(pairs)].mean(0))
    return low, high, np.nan


def _read_answers(path: str) -> pd.DataFrame | None:
    """The predictions beside a result; None where none can be read, and of several labels."""
    try:
        table = pd.read_csv(Path(path).parent / PREDICTIONS)
    except (OSError, ValueError, EOFError):
        return None
    return table if {"label", "predicted", "probability"} <= set(table) else None


def make_tables(rows: pd.DataFrame) -> list[Group]:
    """A table for the terminal per option, backbone and ratio."""
    apart = [name for name in APART if name in rows]
    tables = []
    for _, group in rows.groupby(["baseline", "option", *apart], sort=False):
        first = group.iloc[0]
        where = ", ".join(f"{name} {first[name]}" for name in apart)
        intervals = []
        for low, high in zip(group["low"], group["high"], strict=True):
            intervals.append("-" if np.isnan(low) else f"{points(low)} to {points(high)}")
        text = {
            "task": group["task"],
            "baseline": group["baseline_score"].map(percent),
            "option": group["option_score"].map(percent),
            "difference": group["difference"].map(points),
            "95 % interval": intervals,
            "p": group["p"].map("{:.2g}".format).replace("nan", "-"),
            "pairs": group["pairs"].astype(str),
        }
        title = f"{first['option']} against {first['baseline']} ({where})"
        tables.append(console(pd.DataFrame(text), title))
    return tables


def notes(rows: pd.DataFrame, split: str) -> list[str]:
    """What a reader must know of the tables."""
    sentences = [NOTE.format(split=split, task=TASK_NOTES[split])]
    mixed = rows.loc[rows["task"] != MEAN, "mixed"].sum()
    if mixed:
        sentences.append(MIXED.format(mixed))
    return sentences
