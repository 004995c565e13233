"""Was it worth it? The models beside cheap baselines, as a table, a CSV file and a figure."""

import io
import logging
import math
import os
import shlex
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from rich.console import Console

from skip_exp.forms.registry import FORMS
from skip_exp.outcomes.scores import Labels, interval
from skip_exp.report import tables
from skip_exp.report.figures import CONTROL, INK, PLOT_SETTINGS, STYLES
from skip_exp.utils import files
from skip_exp.within.choose import REFERENCE, TIE, Candidate, Split

log = logging.getLogger(__name__)

TF_IDF = "TF-IDF, logistic regression"
UNCUT = f"uncut, {REFERENCE}"  # a candidate's name
MARKS = dict(zip(FORMS, STYLES, strict=False)) | {"": CONTROL}
CSV, FIGURE = "frontier.csv", "frontier.png"


@dataclass(frozen=True, eq=False)
class Line:
    """A model or a baseline.

    Attributes:
        select: score on the selection slice.
        predicted: classes on the validation split [n].
        speed, spread: texts a second.
        mb: size in 10^6 bytes.
        candidate: None for a baseline.
    """

    model: str
    select: float
    predicted: Labels
    speed: float | None = None
    spread: float | None = None
    mb: float | None = None
    candidate: Candidate | None = None
    is_chosen: bool = False


def describe_model(each: Candidate, predicted: Labels, mb: float, *, is_chosen: bool) -> Line:
    return Line(
        model=each.name,
        select=each.select,
        predicted=predicted,
        speed=each.speed,
        spread=each.spread,
        mb=mb,
        candidate=each,
        is_chosen=is_chosen,
    )


def to_frame(lines: Sequence[Line], validation: Split) -> pd.DataFrame:
    """A row per line: scores as fractions with 95 % intervals over rows, speed and size.

    ``difference`` is to the chosen model, whose rows are resampled with the other's.
    """
    draws = validation.resample([line.predicted for line in lines])
    (chosen,) = (i for i, line in enumerate(lines) if line.is_chosen)
    best = validation.score(lines[chosen].predicted)
    rows = []
    for line, of_line in zip(lines, draws, strict=True):
        low, high = interval(of_line)
        below, above = interval(of_line - draws[chosen])
        score, candidate = validation.score(line.predicted), line.candidate
        row = {
            "model": line.model,
            "form": candidate.form if candidate else "",
            "ratio": candidate.ratio if candidate else None,
            "select": line.select,
            "select_error": candidate.error if candidate else None,
            "validation": score,
            "low": low,
            "high": high,
            "difference": score - best,
            "difference_low": below,
            "difference_high": above,
            "texts_per_s": line.speed,
            "spread": line.spread,
            "mb": line.mb,
            "chosen": line.is_chosen,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def write(frame: pd.DataFrame, folder: Path, metric: str, *, contended: bool) -> None:
    """``frontier.csv`` and ``frontier.png``. Raises SkipError."""
    content = frame.assign(contended=contended).to_csv(index=False, float_format="%.6g")
    files.save(folder / CSV, content.encode())
    picture = io.BytesIO()
    draw(frame, metric).savefig(picture, format="png", dpi=150)
    files.save(folder / FIGURE, picture.getvalue())


@rc_context(PLOT_SETTINGS)
def draw(frame: pd.DataFrame, metric: str) -> Figure:
    """Score on the validation split against texts a second; the chosen model has a ring."""
    figure = Figure(figsize=(6.5, 4.3), layout="constrained")
    axes = figure.add_subplot(xlabel="texts a second", ylabel=f"{metric}, %", xscale="log")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    for form, style in MARKS.items():
        points = frame[frame["form"] == form].dropna(subset=["texts_per_s"])
        if not points.empty:
            axes.plot(
                points["texts_per_s"],
                100 * points["validation"],
                style.marker,
                color=INK[style.colour],
                label=form or TF_IDF,
            )
    (chosen,) = frame[frame["chosen"]].to_dict("records")
    axes.plot(
        chosen["texts_per_s"],
        100 * chosen["validation"],
        "o",
        markersize=15,
        color=INK["fg"],
        fillstyle="none",
        label=f"chosen: {chosen['model']}",
    )
    axes.margins(0.1, 0.15)
    axes.legend(frameon=False)
    return figure


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The last table: baselines, uncut in fp32, each ratio in its fastest form, the chosen one."""
    fastest = frame.dropna(subset=["ratio"]).groupby("ratio")["texts_per_s"].idxmax()
    is_shown = frame["chosen"] | frame["ratio"].isna() | (frame["model"] == UNCUT)
    shown = frame[is_shown | frame.index.isin(fastest)]
    text = pd.DataFrame({"model": shown["model"]})
    is_choice = frame["ratio"].count() > 1  # not a plain job's only model
    if is_choice:
        text.loc[shown["chosen"], "model"] += " (chosen)"
    scores, differences = [], []
    for row in shown.to_dict("records"):
        score, low, high = (tables.percent(row[key]) for key in ("validation", "low", "high"))
        scores.append(f"{score} ({low} to {high})")
        keys = ("difference", "difference_low", "difference_high")
        difference, low, high = (tables.points(row[key]) for key in keys)
        differences.append("-" if row["chosen"] else f"{difference} ({low} to {high})")
    text["validation"] = scores
    text["to the chosen" if is_choice else "to the model"] = differences
    text["texts/s"] = [_round(value, ",.0f") for value in shown["texts_per_s"]]
    text["MB"] = [_round(value, ".1f") for value in shown["mb"]]
    return text


def _round(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def tell(frame: pd.DataFrame, validation: Split, sentences: Sequence[str]) -> None:
    """Log the last table and what there is to say about it."""
    title = f"was it worth it? {validation.metric} on {len(validation.labels)} validation rows"
    width = Console().width if Console().is_terminal else 160
    console = Console(width=width)
    with console.capture() as shown:
        console.print(tables.console(to_text(frame), title))
    log.info("%s", shown.get().rstrip())
    for sentence in sentences:
        log.info(sentence)


def explain(
    frame: pd.DataFrame,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    bound: float,
    rows: int,
    *,
    contended: bool,
) -> list[str]:
    """What was chosen and why, what the slice could not show, and :func:`judge_words`.

    Args:
        bound: a fraction.
        rows: of the selection slice.
    """
    (row,) = frame[frame["chosen"]].to_dict("records")
    (uncut,) = frame[frame["model"] == UNCUT].to_dict("records")
    told = [
        f"chosen: {row['model']}: {row['texts_per_s']:,.0f} texts a second, "
        f"{row['texts_per_s'] / uncut['texts_per_s']:.1f} times {UNCUT}",
        *explain_slice(candidates, chosen, bound, rows, uncut),
    ]
    keys = ("difference", "difference_high", "difference_low")
    scored, low, high = (tables.points(0.0 - uncut[key]) for key in keys)  # no -0.00
    told.append(f"on the validation split: {scored} points ({low} to {high}) from {UNCUT}")
    return [*told, *judge_words(frame, contended=contended)]


def judge_words(frame: pd.DataFrame, *, contended: bool) -> list[str]:
    """Whether TF-IDF would do, and whether the speeds are to be trusted."""
    told = []
    for words in frame[frame["model"] == TF_IDF].to_dict("records"):
        if words["difference_low"] > 0:
            told.append(f"{TF_IDF}, is better: take that")
        elif words["difference_high"] >= 0:
            told.append(f"{TF_IDF}, is as good within the interval: it may be all that you need")
    if contended:
        told.append("other processes took cores: the speeds are contended")
    return told


def explain_slice(
    candidates: Sequence[Candidate],
    chosen: Candidate,
    bound: float,
    rows: int,
    uncut: Mapping[Hashable, Any],
) -> list[str]:
    """What the slice says of the choice, and the bound from which it would be a faster one."""
    best, limit = uncut["select"], f"{100 * bound:g}"
    told = [
        f"on the {rows} rows of the selection slice: {tables.points(chosen.select - best)} points "
        f"from {UNCUT}, standard error {100 * chosen.error:.1f}; allowed together: {limit}"
    ]
    if 1 / rows > bound:
        told.append(
            f"so few rows show no loss below {100 / rows:.1f} points: only the uncut model is "
            f"sure to lose less than {limit}"
        )
    beyond = [each for each in candidates if not each.fits(best - bound)]
    faster = [each for each in beyond if each.speed > chosen.speed / (1 - TIE)]
    if faster:
        each = max(faster, key=lambda other: other.select - other.error)
        needed = math.ceil(1000 * (best - each.select + each.error)) / 10
        times = each.speed / uncut["texts_per_s"]
        told.append(f"{each.name}, {times:.1f} times, needs a bound of {needed:g} points")
    for each in candidates:
        if each.ratio == 0 and each.select < best - bound:
            lost = tables.points(each.select - best)
            told.append(f"left out: {each.name}: {lost} points, allowed: {limit}")
    return told


def next_steps(place: Path, arguments: str) -> list[str]:
    """Where everything is, and the command that uses the chosen model, with its ``arguments``."""
    folder = Path(os.path.relpath(place))
    return [
        f"models:  {folder.parent / CSV}, {FIGURE}",
        f'predict: skip-exp predict {shlex.quote(str(folder))} "TEXT" {arguments}'.rstrip(),
    ]
