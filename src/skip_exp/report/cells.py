"""Cells of a report: the results of one setting, gathered over seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skip_exp.report.frame import SCORES

SETTING = ["task", "backbone", "attribution", "variant", "ratio"]
CELL = [*SETTING, "sample"]  # stand-in rows and real ones never share a cell
SEARCHED = -1.0  # ratio of a setting whose jobs searched for it: it differs from seed to seed
MEASURES = [
    *SCORES,
    "params/block_pruned",
    "params/all_pruned",
    "flops/ratio",
    "latency/dense_ms",
    "latency/final_ms",
    "latency/speedup",
]


@dataclass(frozen=True)
class Gathered:
    """All that a report shows."""

    # A row per cell: CELL, metric, n, "<measure> mean" and "<measure> std" (of the sample; NaN for
    # one value), majority, duplicates, at chance, contended (whether a timing was), data,
    # labels, versions (whether its results are of several versions of the code).
    cells: pd.DataFrame
    runs: pd.DataFrame  # the results that count: per cell and seed the latest finished one
    failed: pd.DataFrame  # the latest failed ones without a finished run of the same seed


def gather(frame: pd.DataFrame) -> Gathered:
    """Group the finished results into cells, sorted; failed ones are listed apart."""
    frame = frame.assign(
        attribution=frame["attribution"].replace("", "-"),
        ratio=frame["ratio"].mask(frame["searched"], SEARCHED),
    )
    done = frame[frame["status"] == "done"]
    runs = done.drop_duplicates([*CELL, "seed"], keep="last")
    # A finished run counts more than a failed one, whichever came later.
    ranked = pd.concat([frame[frame["status"] != "done"], done])
    latest = ranked.drop_duplicates([*SETTING, "seed"], keep="last")
    return Gathered(_cells(runs), runs, failed=latest[latest["status"] != "done"])


def join_values(values: pd.Series) -> str:
    """The distinct texts, sorted, without the empty one."""
    return ", ".join(sorted(set(values) - {""}))


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    # An unknown version is no other one.
    known = runs.replace({"versions/code": "", "versions/parts": ""}, np.nan)
    groups = known.assign(labels=runs["backbone_note"].str.split(":").str[0]).groupby(CELL)
    stats = groups[MEASURES].agg(["mean", "std"])
    stats.columns = [" ".join(names) for names in stats.columns]
    cells = stats.assign(
        metric=groups["metric"].max(),
        n=groups.size(),
        data=groups["data"].agg(join_values),
        labels=groups["labels"].agg(join_values),
        majority=groups["majority"].first(),
        duplicates=groups["duplicates"].max().fillna(0).astype(int),
        contended=groups["contended"].any(),
        versions=(groups[["versions/code", "versions/parts"]].nunique() > 1).any(axis=1),
    )
    cells["at chance"] = at_chance(runs, CELL)
    return cells.sort_index().reset_index()


def at_chance(runs: pd.DataFrame, by: list[str]) -> pd.Series:
    """Per group whether the dense score is within two standard errors of the majority class.

    The error is that of a fraction and, of Matthews correlation, 1/sqrt(n). Seeds share their
    validation rows, so they do not make it smaller. An unknown majority counts as not at chance.
    """
    groups = runs.groupby(by).agg(
        metric=("metric", "max"),
        dense=("metric/dense", "mean"),
        majority=("majority", "first"),
        rows=("n_eval", "first"),
    )
    variance = groups["majority"] * (1 - groups["majority"])
    variance = variance.mask(groups["metric"] == "matthews", 1.0)
    return groups["dense"] <= groups["majority"] + 2 * np.sqrt(variance / groups["rows"])


def main_method(cells: pd.DataFrame) -> pd.Series:
    """Which cells are of the method a report is about: not the control, and with most runs."""
    method = cells["attribution"] + "\n" + cells["variant"]
    counts = cells["n"].where(cells["attribution"] != "random").dropna().groupby(method).sum()
    return method == (counts.idxmax() if len(counts) else None)


def front(points: pd.DataFrame) -> pd.DataFrame:
    """Pareto front of columns x and y, both to be large, in order of x."""
    points = points.sort_values(["x", "y"], ascending=False)
    best_before = points["y"].cummax().shift(fill_value=-np.inf)
    return points[points["y"] > best_before][::-1]


def ratio_text(ratio: float) -> str:
    """``0.5``, or ``found`` where each job searched for its own."""
    return "found" if ratio == SEARCHED else f"{ratio:g}"


def describe_failed(report: Gathered) -> list[str]:
    """A line per failed job, with its error."""
    texts = []
    for job in report.failed.to_dict("records"):
        names = [job["task"], job["backbone"], job["attribution"], job["variant"]]
        if pd.notna(job["ratio"]):  # else its configuration was not read
            names += [f"ratio {ratio_text(job['ratio'])}", f"seed {job['seed']}"]
        texts.append(f"{', '.join(filter(None, names))}: {job['error']}")
    return texts


def backbone_notes(runs: pd.DataFrame) -> list[str]:
    """One sentence for each backbone that is not what its name says."""
    notes = runs.loc[runs["backbone_note"] != "", ["backbone", "backbone_note"]].drop_duplicates()
    return [f"{name}: {note}." for name, note in sorted(notes.to_numpy().tolist())]


WARNINGS = {  # by the column of the cells that asks for it
    "sample": "Rows marked stand-in use SNLI pairs in place of the task's own rows: they are no"
    " scores of the task.",
    "at chance": "Cells marked at chance have a dense model that is not above the majority class"
    " by two standard errors: what pruning does there says little.",
    "versions": "Cells marked with several code versions gather results of different code or"
    " libraries: run their jobs again before you compare them.",
    "duplicates": "Where validation rows are duplicates of train or selection rows, their labels"
    " were seen before; data.deduplicate=true drops them there.",
    "contended": "Contended timings were taken beside other load and are not shown: the same"
    " command takes them again.",
}


def warnings(report: Gathered) -> list[str]:
    """What a reader must know before the numbers."""
    marked = [text for name, text in WARNINGS.items() if report.cells[name].any()]
    return backbone_notes(report.runs) + marked
