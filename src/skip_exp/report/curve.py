"""Would more rows help? One task's scores by the number of train rows."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.console import Console

from skip_exp.data.scores import LEVEL
from skip_exp.report import tables
from skip_exp.report.by_rows import compare_rows, score_interval
from skip_exp.report.figures import INK, PLOT_SETTINGS
from skip_exp.results import Result
from skip_exp.utils import files

CSV, FIGURE = "curve.csv", "curve.png"


def show(found: Sequence[Result], folder: Path) -> None:
    """Write ``curve.csv`` and ``curve.png``; print the table, and whether more rows would help.

    Args:
        found: results from `load`, the number of train rows rising.

    Raises:
        SkipError: a file cannot be written.
    """
    frame, metric, picture = to_frame(found), str(found[-1].metric.name), io.BytesIO()
    files.save(folder / CSV, frame.to_csv(index=False, float_format="%.6g").encode())
    draw(frame, metric).savefig(picture, format="png", dpi=150)
    files.save(folder / FIGURE, picture.getvalue())
    shown = (100 * frame.drop(columns="rows")).map("{:.1f}".format).replace("nan", "-")
    shown.insert(0, "train rows", frame["rows"].map(str))
    Console().print(tables.console(shown, f"{metric} in percent, intervals over validation rows"))
    print(f"{explain(frame)}\ncurve:   {os.path.relpath(folder / CSV)}, {FIGURE}")


def to_frame(found: Sequence[Result]) -> pd.DataFrame:
    """A row per job, as fractions: scores, and the gain over the job before it.

    NaN stands for the interval of a job without predictions, or of several labels per text.
    """
    rows, paths = [], [str(job.path) for job in found]
    for index, job in enumerate(found):
        metric, gain = str(job.metric.name), (math.nan, math.nan)
        if index:
            test = compare_rows([paths[index - 1]], [paths[index]], metric, LEVEL)
            gain = (test.low, test.high) if test else gain
        own = score_interval(paths[index], metric)
        rows.append([job.n_train, job.select.final, job.metric.final, *own, *gain])
    names = ["rows", "select", "validation", "low", "high", "gain_low", "gain_high"]
    frame = pd.DataFrame(rows, columns=names)
    frame.insert(5, "gain", frame["validation"].diff())
    return frame


def explain(frame: pd.DataFrame) -> str:
    """What the last doubling says, judged by its interval."""
    last = frame.iloc[-1]
    if last["gain_low"] > 0:
        return "the last doubling gained more than chance: more rows are likely to help"
    if last["gain_high"] <= 0:
        return "the last doubling gained nothing: more rows like these are unlikely to help"
    return "the last doubling may be chance: these rows do not show whether more would help"


@rc_context(PLOT_SETTINGS)
def draw(frame: pd.DataFrame, metric: str) -> Figure:
    """Score on the validation split, with its interval, by train rows."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="train rows", ylabel=f"{metric} × 100")
    axes.grid(axis="y")
    score, low, high = (100 * frame[name] for name in ("validation", "low", "high"))
    axes.errorbar(frame["rows"], score, [score - low, high - score], fmt="o-", color=INK["c0"])
    axes.set_xticks(frame["rows"])
    axes.set_xlim(left=0)
    return figure
