"""Was it worth it? The models beside cheap baselines, as a table, a CSV file and a figure."""

import io
import logging
import math
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from skip_exp.data.rows import Rows, get_labels
from skip_exp.errors import shown_names
from skip_exp.forms.registry import FORMS
from skip_exp.outcomes.scores import Labels, interval
from skip_exp.report import tables
from skip_exp.report.figures import CONTROL, INK, PLOT_SETTINGS, styles
from skip_exp.utils import files
from skip_exp.utils.console import open_screen
from skip_exp.within.choose import (
    REFERENCE,
    ROUNDING,
    TIE,
    Candidate,
    Speed,
    Split,
    limit_share,
)

log = logging.getLogger(__name__)

TF_IDF = "TF-IDF, linear SVM"
HEAD = "linear head on frozen features"
UNCUT = f"uncut, {REFERENCE}"  # a candidate's name
MARKS = {form: style.marker for form, style in styles(FORMS).items()}
BASELINES = {"TF-IDF": "x", "linear head": "+"}
NAMED = 3  # classes that a sentence names
SMALL_LOSS = 0.01  # of accuracy: a loss that few rows may hide, and that is worth a sentence
CSV = "frontier.csv"
FIGURE = "frontier.png"


@dataclass(frozen=True, eq=False)
class Line:
    """A model or a baseline.

    Attributes:
        select: score on the selection slice.
        predicted: classes on the validation split [n].
        mb: size in 10^6 bytes.
        candidate: None for a baseline.
    """

    model: str
    select: float
    predicted: Labels
    speed: Speed | None = None
    mb: float | None = None
    candidate: Candidate | None = None
    is_chosen: bool = False


def to_frame(lines: Sequence[Line], validation: Split) -> pd.DataFrame:
    """A row per line: scores as fractions with 95 % intervals over rows, speed and size.

    ``difference`` is to the chosen model, whose rows are resampled with the other's.
    """
    draws = validation.resample([line.predicted for line in lines])
    (chosen,) = (i for i, line in enumerate(lines) if line.is_chosen)
    best = validation.score(lines[chosen].predicted)
    rows = []
    for line, draws_of_line in zip(lines, draws, strict=True):
        low, high = interval(draws_of_line)
        below, above = interval(draws_of_line - draws[chosen])
        score = validation.score(line.predicted)
        candidate = line.candidate
        row = {
            "model": line.model,
            "form": candidate.form if candidate else "",
            "ratio": candidate.cut.ratio if candidate else None,
            "layers": candidate.cut.layers if candidate else None,
            "select": line.select,
            "loss_limit": candidate.limit if candidate else None,
            "validation": score,
            "accuracy": float((line.predicted == validation.labels).mean()),
            "low": low,
            "high": high,
            "difference": score - best,
            "difference_low": below,
            "difference_high": above,
            "ms": line.speed and line.speed.ms,
            "ms_p95": line.speed and line.speed.p95,
            "texts_per_s": line.speed and line.speed.texts,
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
    """Score with its interval against the time of one text; the chosen model has a ring.

    A colour is a model and a mark its form.
    """
    figure = Figure(figsize=(6.5, 4.3), layout="constrained")
    axes = figure.add_subplot(xlabel="ms for one text", ylabel=f"{metric}, %", xscale="log")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    timed = frame.dropna(subset=["ms"])
    models = timed["model"].str.replace(r", [^,]*$| on .*", "", regex=True)
    colours = styles(models[timed["form"] != ""])
    for (model, form), points in timed.groupby([models, "form"], sort=False):
        score = 100 * points["validation"]
        low = 100 * points["low"]
        high = 100 * points["high"]
        axes.errorbar(
            points["ms"],
            score,
            [(score - low).clip(0), (high - score).clip(0)],
            fmt=MARKS[form] if form else BASELINES[model],
            color=INK[colours.get(model, CONTROL).colour],
            elinewidth=0.7,
            label=points["model"].iloc[0],
        )
    (chosen,) = frame[frame["chosen"]].to_dict("records")
    axes.plot(
        chosen["ms"],
        100 * chosen["validation"],
        "o",
        markersize=15,
        color=INK["fg"],
        fillstyle="none",
        label=f"chosen: {chosen['model']}",
    )
    axes.margins(0.15)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


def to_text(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The last table: the baselines, and every model that was timed."""
    text = frame[["model"]].copy()
    if frame["ratio"].count() > 2:  # not a plain job's only cut
        text.loc[frame["chosen"], "model"] += " (chosen)"
    scores = []
    times = []
    for row in frame.to_dict("records"):
        score = tables.percent(row["validation"])
        scores.append(f"{score} ({tables.percent(row['low'])} to {tables.percent(row['high'])})")
        times.append("-" if pd.isna(row["ms"]) else f"{row['ms']:.2f} ({row['ms_p95']:.2f})")
    text["validation"] = scores
    text["ms (95 %)"] = times
    if metric == "accuracy":
        text["texts/s"] = frame["texts_per_s"].map("{:,.0f}".format).replace("nan", "-")
    else:  # which may disagree; 80 columns have no room for both
        text["accuracy"] = frame["accuracy"].map(tables.percent)
    text["MB"] = frame["mb"].map("{:.1f}".format).replace("nan", "-")
    return text


def tell(frame: pd.DataFrame, validation: Split, sentences: Sequence[str]) -> None:
    """Log the last table and what there is to say about it."""
    title = (
        f"was it worth it? {validation.metric} on {len(validation.labels)} validation rows "
        "(in brackets: 95 %)"
    )
    screen = open_screen()
    with screen.capture() as shown:
        screen.print(tables.console(to_text(frame, validation.metric), title))
    log.info("%s", shown.get().rstrip())
    for sentence in sentences:
        log.info(sentence)


def explain(
    frame: pd.DataFrame,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    bound: float,
    rows: int,
) -> list[str]:
    """What was chosen and why, what the slice could not show, and the bound of a faster model.

    Args:
        bound: a fraction.
        rows: of the selection slice.
    """
    row = frame.set_index("model").loc[chosen.name]
    gain = tables.points(0.0 + chosen.select - candidates[0].select)
    sentences = [
        f"chosen: {chosen.name}: {row['ms']:.2f} ms for one text, "
        f"{row['texts_per_s']:,.0f} texts a second",
        f"on the {rows} rows of the selection slice: {gain} points from {UNCUT}",
    ]
    if chosen.cut.ratio > 0:  # so few rows say nothing of rounding
        sentences += [
            f"its loss by this slice: at most {ceil_points(chosen.limit)} points; "
            f"allowed: {100 * bound:g}",
            "such a limit holds on nine of ten slices for one cut, on seven of ten or more after a "
            "choice among several",
        ]
    # Even a cut that changes no answer has a limit above zero.
    least = limit_share(0, rows)
    if least > bound:
        sentences.append(
            f"so few rows show no loss below {ceil_points(least)} points: no cut was tried; "
            "allow as much, or give more rows"
        )
    # A user who allows more gets a faster one.
    speed = chosen.speed / (1 - TIE)
    faster = [other for other in candidates if other.limit > bound and other.speed > speed]
    if faster:
        nearest = min(faster, key=lambda candidate: candidate.limit)
        sentences.append(
            f"{nearest.name} is faster, and needs a bound of {ceil_points(nearest.limit)} points"
        )
    return sentences


def explain_rows(frame: pd.DataFrame, rows: Rows) -> list[str]:
    """What the validation rows show of the loss, and what they cannot.

    Args:
        frame: see :func:`to_frame`.
    """
    sentences = []
    uncut = frame.set_index("model").loc[UNCUT]
    if not uncut["chosen"]:
        # The frame has differences to the chosen model: those from the uncut one change signs.
        gain = tables.points(0.0 - uncut["difference"])
        low = tables.points(0.0 - uncut["difference_high"])
        high = tables.points(0.0 - uncut["difference_low"])
        sentences.append(
            f"on the validation split: {gain} points ({low} to {high}: 95 %) from {UNCUT}"
        )
    counts = Counter(get_labels(rows.train + rows.select))
    single = [name for i, name in enumerate(rows.spec.labels) if counts[i] == 1]
    if single:
        sentences.append(f"a single train row: {shown_names(single, NAMED)}: nothing is learnt")
    seen = set(get_labels(rows.validation))
    missing = [label for i, label in enumerate(rows.spec.labels) if i not in seen]
    if missing:
        sentences.append(f"no validation row: {shown_names(missing, NAMED)}: not scored")
    hidden = limit_share(0, len(rows.validation))
    if hidden > SMALL_LOSS:
        sentences.append(
            f"the {len(rows.validation)} validation rows may not show a loss of "
            f"{ceil_points(hidden)} points of accuracy"
        )
    return sentences


def judge_baselines(frame: pd.DataFrame, *, contended: bool) -> list[str]:
    """Whether a baseline would do, and whether the speeds are to be trusted."""
    sentences = []
    (chosen,) = frame[frame["chosen"]].to_dict("records")
    for row in frame[frame["model"].isin([TF_IDF, HEAD])].to_dict("records"):
        name = f"{row['model']}, {row['ms']:.2f} ms"
        is_preferred = row["difference"] > 0 or row["ms"] < chosen["ms"]
        if row["difference_low"] > 0:
            sentences.append(f"{name}: {tables.points(row['difference'])} points: take that")
        elif row["difference_high"] >= 0 and is_preferred:
            sentences.append(f"{name}: as good within the interval: it may do; it is not saved")
    if contended:
        sentences.append("other processes took cores: the speeds are contended")
    return sentences


def ceil_points(fraction: float) -> str:
    """Points, rounded up to a tenth, so that a limit holds as it is printed."""
    return f"{math.ceil(1000 * fraction - ROUNDING) / 10:g}"


def next_steps(chosen: Path, precision: str) -> list[str]:
    """Where everything is, and the command that uses the model in the folder ``chosen``."""
    folder = Path(os.path.relpath(chosen))
    option = "" if precision == "32-true" else f" --precision {precision}"
    return [
        f"models:  {folder.parent / CSV}, {FIGURE}",
        f'predict: skip-exp predict {shlex.quote(str(folder))} "TEXT"{option}',
    ]
