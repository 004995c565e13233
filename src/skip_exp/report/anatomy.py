"""The anatomy of finished skills as one HTML page: a figure or a table per question."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context

from skip_exp.neurons.measure import areas
from skip_exp.report import figures
from skip_exp.report.figures import (
    INK,
    SETTINGS,
    STYLES,
    Drawings,
    Style,
    add,
    drawing,
    empty,
    styles,
)
from skip_exp.report.matrices import (
    ABOUT,
    causals,
    decimals,
    kind_of,
    nearest,
    overlap,
    ratios_of,
    transfers,
    where,
)
from skip_exp.report.page import render

Tables = Mapping[str, pd.DataFrame]


def page(tables: Tables, ratio: float, folders: Sequence[str]) -> str:
    """The page of the tables of :func:`skip_exp.anatomy`, and of ``transfer`` and ``scarcity``.

    Tables that are missing or empty have no section.

    Args:
        ratio: that the skill neurons belong to.
        folders: what was measured, for the head.
    """
    found = {name: table for name, table in tables.items() if len(table)}
    about = pd.concat([pd.DataFrame(columns=[*ABOUT]), *(t[[*ABOUT]] for t in found.values())])
    return render(
        "anatomy.html.j2",
        counts={name: about[name].nunique() for name in ABOUT},
        ratio=f"{100 * ratio:g} %",
        folders=folders,
        where=where(found["where"], ratio) if "where" in found else [],
        curves=_curves(found),
        areas=_areas(found["ablation"]) if "ablation" in found else [],
        overlap=overlap(found["overlap"]) if "overlap" in found else [],
        stable=_stable(found["overlap"]) if "overlap" in found else [],
        causal=causals(found["causal"]) if "causal" in found else [],
        transfer=transfers(found["transfer"]) if "transfer" in found else [],
        scarcity=scarcity(found["scarcity"]) if "scarcity" in found else None,
        reliability=reliability(found["calibration"], ratio) if "calibration" in found else None,
        errors=_errors(found["calibration"]) if "calibration" in found else [],
        abroad=_abroad(found["abroad"]) if "abroad" in found else [],
    )


@rc_context(SETTINGS)
def ablation(table: pd.DataFrame) -> Drawings:
    """Score against the fraction removed, per task and backbone: the mean over seeds."""
    legend, drawings = styles(dict.fromkeys(table["by"])), []
    for (backbone, task), part in table.groupby(["backbone", "task"], sort=False):
        axes = empty("block parameters removed, %", "balanced accuracy, %")
        axes.set_xlim(0, 100)
        for (by, first), group in part.groupby(["by", "first"], sort=False):
            marks = points(group, (100 * group["removed"]).round())
            add(axes, legend[str(by)], marks, marks, is_hollow=first == "most")
        drawings.append(drawing(axes, f"{task} · {backbone}"))
    return drawings, legend


def points(table: pd.DataFrame, x: pd.Series) -> pd.DataFrame:
    """x, y and std: mean and deviation of the score over seeds, in percent."""
    grouped = (100 * table["score"]).groupby(x)
    found = pd.DataFrame({"y": grouped.mean(), "std": grouped.std()})
    return found.rename_axis("x").reset_index()


def _curves(found: Tables) -> dict[str, Drawings]:
    """The drawings by what a removed neuron answers."""
    if "ablation" not in found:
        return {}
    groups = found["ablation"].groupby("answer", sort=False)
    return {str(answer): ablation(part) for answer, part in groups}


def _areas(curves: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of text: the area between both curves in points, mean over seeds."""
    table = areas(curves)
    table["area"] *= 100
    wide = table.pivot_table("area", ["backbone", "task"], ["by", "answer"], sort=False)
    rows = []
    for (backbone, task), row in wide.iterrows():
        cells = {f"{by}, {answer}": f"{value:+.1f}" for (by, answer), value in row.items()}
        rows.append({"task": str(task), "backbone": str(backbone), **cells})
    return rows


def _stable(table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of text: mean overlap with other methods, and with other numbers of train rows."""
    rows = []
    own = table[table["between"] != "jobs"]
    for (backbone, task, kind), part in own.groupby(["backbone", "task", "kind"], sort=False):
        means = part.groupby(["between", "other"], sort=False)["overlap"].mean()
        cells = {
            f"{other} rows" if between == "samples" else str(other): decimals(value)
            for (between, other), value in means.items()
        }
        what = {"task": f"{task}, {kind_of(str(kind))}", "backbone": str(backbone)}
        rows.append({**what, **cells})
    return rows


@rc_context(SETTINGS)
def scarcity(table: pd.DataFrame) -> Drawings:
    """Score against the rows of re-tuning, per ratio: mean over the tasks that have all of them."""
    legend, drawings = styles(dict.fromkeys(table["by"])), []
    for (backbone, ratio), part in table.groupby(["backbone", "ratio"], sort=False):
        points_of_task = part.groupby("task")["rows"].transform("nunique")
        part = part[points_of_task == points_of_task.max()]
        tasks_of_point = part.groupby("rows")["task"].transform("nunique")
        part = part[tasks_of_point == part["task"].nunique()]
        counts = sorted(part["rows"].unique())
        axes = empty("rows of re-tuning", "mean balanced accuracy, %")
        for by, group in part.groupby("by", sort=False):
            over = group.groupby(["rows", "seed"])["score"].mean().reset_index()
            marks = points(over, over["rows"].map(counts.index))
            add(axes, legend[str(by)], marks, marks)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        names = f"{part['task'].nunique()} tasks"
        drawings.append(drawing(axes, f"{100 * ratio:g} % cut · {backbone} · {names}"))
    return drawings, legend


@rc_context(SETTINGS)
def reliability(table: pd.DataFrame, ratio: float) -> Drawings:
    """How often each state is right against how sure it is, of each job nearest to ``ratio``."""
    cut = nearest(table, ratio)
    shown = pd.concat([table[table["state"] == "dense"], cut])
    colours = (figures.CONTROL, STYLES[1], STYLES[0])
    legend = dict(zip(("dense", "pruned", "final"), colours, strict=True))
    drawings = []
    for (backbone, task), part in shown.groupby(["backbone", "task"], sort=False):
        axes = empty("confidence, %", "right, %")
        axes.plot([0, 100], [0, 100], color=INK["muted"], linestyle=":", lw=1, clip_on=False)
        for state, style in legend.items():
            marks = _bins(part[part["state"] == state])
            add(axes, style, marks, marks, is_hollow=state == "pruned")
        of = part[part["ratio"] > 0]
        title = f" · {ratios_of(of)} cut" if len(of) else ""
        drawings.append(drawing(axes, f"{task} · {backbone}{title}"))
    return drawings, legend | {"as sure as right": Style("muted", "", "⋯")}


def _bins(part: pd.DataFrame) -> pd.DataFrame:
    """Bins pooled over the seeds, with at least ten rows each."""
    weighted = part.assign(
        x=100 * part["confidence"] * part["rows"], y=100 * part["accuracy"] * part["rows"]
    )
    sums = weighted.groupby("bin")[["x", "y", "rows"]].sum()
    sums = sums[sums["rows"] >= 10]
    found = sums[["x", "y"]].div(sums["rows"], axis=0)
    return found.assign(std=float("nan")).reset_index(drop=True)


def _errors(table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of text: the calibration error in percent, mean over seeds, by state and ratio."""
    per_state = table.drop_duplicates(["task", "backbone", "seed", "state", "ratio"])
    rows = []
    for (backbone, task), part in per_state.groupby(["backbone", "task"], sort=False):
        means = 100 * part.groupby(["ratio", "state"], sort=False)["error"].mean()
        rows.append({"task": str(task), "backbone": str(backbone), **_by_state(means)})
    return rows


def _by_state(means: "pd.Series[float]") -> dict[str, str]:
    names = {(ratio, state): _state(str(state), float(ratio)) for ratio, state in means.index}
    return {names[key]: f"{value:.1f}" for key, value in means.items()}


def _state(state: str, ratio: float) -> str:
    if ratio == 0:
        return "dense" if state == "dense" else "dense, again"
    return f"{state} {100 * ratio:g} %"


def _abroad(table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of text: scores on other tasks in percent, mean over seeds."""
    rows = []
    for (backbone, task, on), part in table.groupby(["backbone", "task", "on"], sort=False):
        means = 100 * part.groupby(["ratio", "state"], sort=False)["score"].mean()
        about = {"task": f"{task} on {on}", "backbone": str(backbone)}
        rows.append({**about, "metric": str(part["metric"].iloc[0]), **_by_state(means)})
    return rows
