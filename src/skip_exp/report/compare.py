"""Is one setting better than another? Paired differences over tasks and seeds."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from skip_exp.data.scores import DRAWS
from skip_exp.errors import SkipError
from skip_exp.report import frame
from skip_exp.report.by_rows import compare_rows
from skip_exp.report.cells import SEARCHED, ratio_text
from skip_exp.report.frame import GOALS, PREFIX, name_values
from skip_exp.report.tables import escape_markdown, markdown, percent, points

BY_FOLDER = "folder"  # compared in place of a key: whole folders, whatever their settings
ALL = "all"  # in the column `task`: the mean over the tasks
CONFIDENCE = 0.95
_COLUMNS = {name: name for name in ("attribution", "backbone", "ratio", BY_FOLDER)}
_COLUMNS |= {"prune.ratio": "ratio"}  # the others are in the columns of the configuration
_YAML = {"true": "True", "false": "False", "null": "None"}
NOTE = (
    "Scores in percent on {split}; difference: in points, positive where the second setting scores"
    " higher. A task counts once: its seeds are averaged first. The interval is the 95 %"
    " t-interval over the tasks' differences; it needs two tasks. Results on stand-in rows and"
    " failed jobs are left out."
)
OVER_ROWS = (
    "**over rows**: with one task there is no interval over tasks. The rows of the validation split"
    f" are resampled {DRAWS:,} times instead, not seeds or tasks: it holds for these trained"
    " models. p: McNemar's exact test of accuracy, for one seed."
)
FINAL = "metric/final"  # the score whose predictions are kept
CODE_COLUMN = "versions/code"
UNPAIRED = "unpaired"  # of the frame's attrs: by option, tasks that both sides have, in no pair
APART = "There the results differ in more, or have no seed in common."
MIXED = (
    "**The two sides of {} pairs ran with different code or libraries**:"
    " a difference may come from that. Run the older jobs again."
)


def load(folders: Iterable[str]) -> pd.DataFrame:
    """Results of all folders as one frame, with a column ``folder``.

    Raises:
        SkipError: a folder has no result.
    """
    parts = [frame.load([folder]).assign(**{BY_FOLDER: folder}) for folder in folders]
    every = pd.concat(parts, ignore_index=True)
    config = [name for name in every if name.startswith(PREFIX)]
    return frame.order_runs(every.fillna(dict.fromkeys(config, "")))


def compare(
    results: pd.DataFrame, by: str, values: Sequence[str] = (), score: str = FINAL
) -> pd.DataFrame:
    """Every other value of a key against a baseline value, a row per task and their mean.

    Args:
        results: from `load`.
        by: a key such as ``prune.sites``, a group such as ``attribution``, or ``folder``.
        values: the first is the baseline; none: all, against the one with most results.
        score: column of the scores, such as ``select/pruned``.

    Returns:
        Columns baseline, option, backbone, ratio, setting (further keys that tell the rows apart),
        task, metric, pairs, mixed (pairs whose two sides are of different versions of the code),
        baseline_score, option_score, difference, and in the rows whose task is `ALL` low, high,
        over (tasks or rows: what the interval is over) and p (McNemar's); fractions, not percent.

    Raises:
        SkipError: no such key or value, or no two results that differ in it alone.
    """
    real = results[(results["status"] == "done") & ~results["sample"]]
    if real.empty:
        raise SkipError(f"--by {by}: no finished result on rows of its own task")
    real = real.dropna(subset=["seed", score])
    if real.empty:
        raise SkipError(f"--score {score}: no finished result has it")
    real = real.assign(ratio=real["ratio"].mask(real["searched"], SEARCHED))
    options = _options(real, by)
    baseline, *others = _choose(options, by, values)
    paired = {
        (baseline, option): _pairs(real[options == baseline], real[options == option], by, score)
        for option in others
    }
    rows = {names: _rows(pairs, score) for names, pairs in paired.items() if len(pairs)}
    if not rows:
        raise SkipError(f"--by {by}: no two results differ in {by} alone")
    every = pd.concat(rows, names=["baseline", "option", "row"]).reset_index().drop(columns="row")
    tasks = real["task"].groupby(options).agg(set)
    every.attrs[UNPAIRED] = {
        option: sorted((tasks[baseline] & tasks[option]) - {*found["task"]})
        for (_, option), found in rows.items()
    }
    return every


def _options(results: pd.DataFrame, by: str) -> pd.Series:
    """The value of the compared key, per result, as text; of a group all that differs in it."""
    column = _COLUMNS.get(by, PREFIX + by)
    if column == "ratio":
        return _ratios(results)
    if below := _below(results, by):
        names = results[column] if by in _COLUMNS else pd.Series("", index=results.index)
        parts = [_describe(part, below) for _, part in results.groupby(names)]
        return (names + ", " + pd.concat([*parts, pd.Series(dtype=object)])).str.strip(", ")
    if column not in results:
        keys = [name for name in results if name.startswith(PREFIX) and results[name].nunique() > 1]
        differ = ", ".join(key.removeprefix(PREFIX) for key in keys) or "none"
        raise SkipError(f"--by {by}: no such key in these results; keys that differ: {differ}")
    return results[column].map(str if column == BY_FOLDER else _plain)


def _choose(options: pd.Series, by: str, values: Sequence[str]) -> list[str]:
    """The options that ``values`` name or, without any, all of them, the most frequent first.

    Raises:
        SkipError: no result has one of them, or there is no second one.
    """
    known = options[options != ""].value_counts()
    plain = {_plain(option): option for option in known.index}
    if _COLUMNS.get(by) == "ratio":
        plain.setdefault("auto", ratio_text(SEARCHED))
    given = values if by == BY_FOLDER else [plain.get(_plain(each), each) for each in values]
    chosen = list(given) or list(known.index)
    if unknown := [value for value in chosen if value not in known]:
        raise SkipError(f"--by {by}={unknown[0]}: no result; there are: {'; '.join(known.index)}")
    if len(chosen) < 2:
        raise SkipError(f"--by {by}: needs two values; the results have: {'; '.join(known.index)}")
    return chosen


def _ratios(results: pd.DataFrame) -> pd.Series:
    """``0.5``, or ``found`` of a search; with its goal where there are several."""
    found = results[results["ratio"] == SEARCHED]
    goals = _describe(found, [name for name in GOALS if name in results])
    texts = results["ratio"].map(ratio_text) + ", " + goals.reindex(results.index, fill_value="")
    return texts.str.strip(", ")


def _below(results: pd.DataFrame, *groups: str) -> list[str]:
    starts = tuple(f"{PREFIX}{group}." for group in groups)
    return [name for name in results if name.startswith(starts)]


def _describe(results: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """``tune.lr=0.1, tune.epochs=3``: per result the columns in which the results differ."""
    differ = [name for name in columns if results[name].nunique() > 1]
    return pd.Series(name_values(results[differ]), index=results.index, dtype=object)


def _plain(value: Any) -> str:
    """One text for what YAML, Hydra and Python write differently: ``[a,b]``, ``1e-3``, ``null``."""
    text = str(value).strip("[]").replace(", ", ",").replace(",", "+")
    try:
        return f"{float(text):g}"
    except ValueError:
        return _YAML.get(text, text)


def _pairs(left: pd.DataFrame, right: pd.DataFrame, by: str, score: str) -> pd.DataFrame:
    """Results that agree in all but ``by``: columns of both, ``baseline`` and ``option``.

    Keys below a compared group are ignored, keys that only one side has at all, and what follows
    from the compared key.
    """
    compared = _COLUMNS.get(by, PREFIX + by)
    on = [name for name in ("task", "backbone", "ratio", "seed") if name != compared]
    keys = [name for name in left if name.startswith(PREFIX) or name == "attribution"]
    ignored = {compared, *_below(left, "benchmark", by)}
    if by == BY_FOLDER:
        settings = [*on, *(name for name in keys if name not in ignored)]
        for side in (left, right):
            if side.drop_duplicates(settings).duplicated(on).any():
                where = side[BY_FOLDER].iloc[0]
                raise SkipError(f"--by {BY_FOLDER}: {where} has several settings of one job")
    else:
        if compared == "ratio":  # a search is one of its values
            ignored |= {*GOALS}
        if by.startswith(("task", "data")):  # it may change what is read of the same rows
            ignored.add(PREFIX + frame.ROWS)
        if by.startswith(("task", "backbone", "tune")) or by in ("prompt", "prompt.kind"):
            # It may change what tuning starts from.
            ignored.add(PREFIX + frame.START)
        if by.startswith("backbone"):  # its readout may need words
            ignored.add(f"{PREFIX}task.words")
        if by == "backbone":  # its file may set rates; a swept one stays a setting
            rates = [name for name in keys if name.endswith(".full_lr")]
            ignored |= {n for n in rates if left[n].nunique() == right[n].nunique() == 1}
        both = [n for n in keys if (left[n] != "").any() and (right[n] != "").any()]
        on += [name for name in both if name not in ignored]
    baseline, option = (side.drop_duplicates(on, keep="last") for side in (left, right))
    kept = [CODE_COLUMN, "path", score]
    baseline = baseline[[*on, "metric", *kept]].rename(columns={score: "baseline"})
    option = option[[*on, *kept]].rename(columns={score: "option"})
    pairs = baseline.merge(option, on=on, suffixes=("", " of option"))
    codes = pairs[[CODE_COLUMN, f"{CODE_COLUMN} of option"]]
    return pairs.assign(mixed=(codes.nunique(axis=1) > 1) & (codes != "").all(axis=1))


def _rows(pairs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Per backbone, ratio and further setting a row per task, then that of their mean."""
    compared: dict[str, Any] = {"backbone": "", "ratio": np.nan}
    pairs = pairs.assign(**{name: x for name, x in compared.items() if name not in pairs})
    pairs = pairs.assign(setting=_settings(pairs), difference=pairs["option"] - pairs["baseline"])
    at, parts = ["backbone", "ratio", "setting"], []
    for place, group in pairs.groupby(at, dropna=False):
        tasks = group.groupby("task", as_index=False).agg(
            metric=("metric", "first"),
            pairs=("seed", "size"),
            mixed=("mixed", "sum"),
            baseline_score=("baseline", "mean"),
            option_score=("option", "mean"),
            difference=("difference", "mean"),
        )
        low, high = interval(tasks["difference"])
        over, p = "" if np.isnan(low) else "tasks", np.nan
        if len(tasks) == 1 and score == FINAL:
            paths = group["path"], group["path of option"]
            by_rows = compare_rows(*paths, tasks["metric"].iloc[0], CONFIDENCE)
            if by_rows is not None:
                low, high, p = by_rows
                over = "rows"
        scores = tasks[["baseline_score", "option_score", "difference"]].mean().to_dict()
        whole = {"task": ALL, "metric": "", "pairs": len(group), "mixed": int(group["mixed"].sum())}
        whole |= {"low": low, "high": high, "over": over, "p": p, **scores}
        rows = pd.concat([tasks, pd.DataFrame([whole])])
        parts.append(rows.assign(**dict(zip(at, place, strict=True))))
    rows = pd.concat(parts, ignore_index=True)
    return rows[[*at, *rows.columns.drop(at)]]


def _settings(pairs: pd.DataFrame) -> pd.Series:
    """Per pair the keys that tell pairs of one task and backbone apart.

    What differs between tasks and backbones alone, such as words or rows, names no setting.
    """
    names = [n for n in pairs if n == "attribution" or n.startswith(PREFIX)]
    differ = pairs.groupby(["task", "backbone"])[names].transform("nunique") > 1
    own = {*_below(pairs, "task", "backbone"), PREFIX + frame.START, PREFIX + frame.ROWS}
    for name in differ.columns.difference(sorted(own)):  # it is named in all tasks, or in none
        differ[name] = differ[name].any()
    return _describe(pairs[names].where(differ, ""), names)


def interval(differences: Sequence[float] | pd.Series) -> tuple[float, float]:
    """The 95 % t-interval of their mean; NaN for fewer than two."""
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def page(rows: pd.DataFrame, by: str, score: str) -> str:
    """The comparison as Markdown: per option the means with their intervals, then every task."""
    split = "the selection slice" if score.startswith("select/") else "the validation split"
    parts = [f"# {escape_markdown(by)}: {score}"]
    for (baseline, option), group in rows.groupby(["baseline", "option"], sort=False):
        is_mean = group["task"] == ALL
        group = group.assign(at=_places(group), difference=group["difference"].map(points))
        group = group.astype({"pairs": str})
        tasks, means = group[~is_mean], group[is_mean]
        intervals = means.apply(_interval_text, axis=1)
        counts = means["at"].map(tasks["at"].value_counts()).astype(str)
        means = means.assign(**{"tasks": counts, "95 % interval": intervals})
        tasks = tasks.assign(seeds=tasks["pairs"])
        tasks[[baseline, option]] = tasks[["baseline_score", "option_score"]].map(percent)
        columns = ["at", "tasks", "pairs", "difference", "95 % interval"]
        if means["p"].notna().any():
            means = means.assign(p=means["p"].map(lambda p: "-" if pd.isna(p) else f"{p:.3f}"))
            columns.append("p")
        head = f"{option} against {baseline}"
        parts += [f"## {escape_markdown(head)}", markdown(means[columns])]
        if unpaired := rows.attrs.get(UNPAIRED, {}).get(option):
            parts += [f"**Without a pair: {escape_markdown(', '.join(unpaired))}.** {APART}"]
        columns = ["at", "task", "metric", baseline, option, "difference", "seeds"]
        parts += [markdown(tasks[columns])]
    mixed = rows.loc[rows["task"] == ALL, "mixed"].sum()
    parts += [MIXED.format(mixed)] if mixed and by != BY_FOLDER else []
    parts += [NOTE.format(split=split)]
    parts += [OVER_ROWS] if (rows["over"] == "rows").any() else []
    return "\n\n".join(parts) + "\n"


def _interval_text(mean: pd.Series) -> str:
    """``-0.40 to +2.10``, with ``over rows`` where no tasks are resampled."""
    if np.isnan(mean["low"]):
        return "-"
    text = f"{points(mean['low'])} to {points(mean['high'])}"
    return f"{text} over rows" if mean["over"] == "rows" else text


def _places(rows: pd.DataFrame) -> pd.Series:
    """``minilm, ratio 0.5, tune.lr=0.1``"""
    ratios = rows["ratio"].map(lambda ratio: "" if pd.isna(ratio) else f"ratio {ratio_text(ratio)}")
    parts = zip(rows["backbone"], ratios, rows["setting"], strict=True)
    return pd.Series([", ".join(filter(None, each)) for each in parts], index=rows.index)
