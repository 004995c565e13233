"""The anatomy of finished skills as one HTML page: a figure or a table per question."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd
from jinja2 import Environment, PackageLoader
from matplotlib import rc_context

from skip_exp.models.sites import Site
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
from skip_exp.report.page import Shaded

Tables = Mapping[str, pd.DataFrame]
GRID = 10  # shades of a matrix
ABOUT = ("task", "backbone", "seed")


def page(tables: Tables, ratio: float, folders: Sequence[str]) -> str:
    """The page of the tables of :func:`skip_exp.anatomy`, and of ``transfer`` and ``scarcity``.

    Tables that are missing or empty have no section.

    Args:
        ratio: that the skill neurons belong to.
        folders: what was measured, for the head.
    """
    found = {name: table for name, table in tables.items() if len(table)}
    loader = PackageLoader("skip_exp.report")
    layout = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    about = pd.concat([pd.DataFrame(columns=[*ABOUT]), *(t[[*ABOUT]] for t in found.values())])
    return layout.get_template("anatomy.html.j2").render(
        counts={name: about[name].nunique() for name in ABOUT},
        ratio=f"{100 * ratio:g} %",
        folders=folders,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
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


def where(table: pd.DataFrame, ratio: float) -> list[Shaded]:
    """Percent kept by layer, per backbone and kind of neuron, of each job nearest to ``ratio``."""
    cut = nearest(table, ratio).assign(share=lambda t: t["kept"] / t["of"])
    shaded = []
    for (backbone, kind), part in cut.groupby(["backbone", "kind"], sort=False):
        grouped = part.groupby(["task", "layer"], sort=False)["share"]
        mean, std = (grouped.agg(how).unstack() for how in ("mean", "std"))
        rows = []
        for task in mean.index:
            cells = zip(mean.loc[task], std.loc[task], strict=True)
            rows.append((str(task), [_cell(m, _spread(m, s)) for m, s in cells]))
        title = f"{_kind(str(kind))} · {backbone} · {_ratios(part)} cut"
        shaded.append(Shaded(title, list(map(str, mean.columns)), rows))
    return shaded


def nearest(table: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """The rows of each task, backbone and seed at the cut that is nearest to ``ratio``."""
    cut = table[table["ratio"] > 0]
    cut = cut.assign(off=(cut["ratio"] - ratio).abs())
    least = cut.groupby([*ABOUT])["off"].transform("min")
    return cut[cut["off"] == least].drop(columns="off")


def _ratios(table: pd.DataFrame) -> str:
    """``90 %``, or ``70 to 90 %``."""
    low, high = 100 * table["ratio"].min(), 100 * table["ratio"].max()
    return f"{low:g} %" if low == high else f"{low:g} to {high:g} %"


def _kind(like: str) -> str:
    """``encoder.self.heads`` is ``encoder heads``; ``decoder.cross.heads`` names the cross."""
    site = Site(like.replace(".", ".0.", 1))
    cross = "cross " if site.sublayer.part == "cross" else ""
    return f"{site.sublayer.stack} {cross}{site.kind}"


def _spread(mean: float, std: float) -> str:
    """``12``, and in small print the seeds' deviation."""
    small = "" if pd.isna(std) else f"<small>± {100 * std:.0f}</small>"
    return f"{100 * mean:.0f}{small}"


def _cell(value: float, text: str, most: float = 1.0) -> tuple[int, str] | None:
    """Shade and text; below zero is as white as zero."""
    if pd.isna(value):
        return None
    return round(GRID * min(max(value / most, 0.0), 1.0)), text


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


def overlap(table: pd.DataFrame) -> list[Shaded]:
    """Overlap of each two jobs, by backbone and kind; of several seeds, each with its own row."""
    jobs = table[table["between"] == "jobs"]
    shaded = []
    for (backbone, kind), part in jobs.groupby(["backbone", "kind"], sort=False):
        several = part["seed"].nunique() > 1
        names = {}
        for task, seed in part[["task", "seed"]].drop_duplicates().itertuples(index=False):
            names[(task, seed)] = f"{task} {seed}" if several else str(task)
        values = {}
        for row in part.to_dict("records"):
            ends = (row["task"], row["seed"]), (row["other task"], int(row["other seed"]))
            values[ends] = values[ends[::-1]] = row["overlap"]
        rows = [(name, [_number(values.get((a, b))) for b in names]) for a, name in names.items()]
        shaded.append(Shaded(f"{_kind(str(kind))} · {backbone}", list(names.values()), rows))
    return shaded


def _number(value: float | None) -> tuple[int, str] | None:
    return None if value is None else _cell(value, _decimals(value))


def _decimals(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}".replace("-0.00", "0.00")


def _stable(table: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of text: mean overlap with other methods, and with other numbers of train rows."""
    rows = []
    own = table[table["between"] != "jobs"]
    for (backbone, task, kind), part in own.groupby(["backbone", "task", "kind"], sort=False):
        means = part.groupby(["between", "other"], sort=False)["overlap"].mean()
        cells = {
            f"{other} rows" if between == "samples" else str(other): _decimals(value)
            for (between, other), value in means.items()
        }
        what = {"task": f"{task}, {_kind(str(kind))}", "backbone": str(backbone)}
        rows.append({**what, **cells})
    return rows


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """A transfer's rows with ``gain``: the score above that of random neurons in their place."""
    keys = [*ABOUT, "kept", "ratio", "rows"]
    random = table[table["is_random"]][[*keys, "score"]].rename(columns={"score": "random"})
    found = table[~table["is_random"]].merge(random, on=keys)
    return found.assign(gain=found["score"] - found["random"])


def transfers(table: pd.DataFrame) -> list[Shaded]:
    """A matrix for each ratio and number of rows."""
    parts = gains(table).groupby(["ratio", "rows"], sort=False)
    return [
        matrix._replace(title=f"{matrix.title} · {100 * ratio:g} % cut, {rows:,} rows")
        for (ratio, rows), part in parts
        for matrix in matrices(part, "kept", "gain")
    ]


def causals(table: pd.DataFrame) -> list[Shaded]:
    """A matrix for each answer, on one scale; its first row has the dense models' scores."""
    most, shaded = 100 * float(table["harm"].max()), []
    for answer, part in table.groupby("answer", sort=False):
        for matrix in matrices(part, "cut", "harm", most):
            of = part[part["backbone"] == matrix.title]
            dense = 100 * of.groupby("task")["dense"].mean()
            cells: list[tuple[int, str] | None] = [(0, f"{dense[t]:.1f}") for t in matrix.columns]
            title = f"{matrix.title} · they answer {'zero' if answer == 'zero' else 'their mean'}"
            shaded.append(Shaded(title, matrix.columns, [("nothing", cells), *matrix.rows]))
    return shaded


def matrices(
    table: pd.DataFrame, owner: str, value: str, most: float | None = None
) -> list[Shaded]:
    """One matrix a backbone, in points, mean over seeds: ``owner`` in rows, task in columns.

    The small print of a cell has the scores that ``value`` is the difference of, random first.
    """
    most = max(100 * float(table[value].max()) if most is None else most, 1e-9)
    shaded = []
    for backbone, part in table.groupby("backbone", sort=False):
        of = 100 * part.pivot_table([value, "random", "score"], owner, "task", sort=False)
        means = of[value]
        order = [task for task in means.columns if task in means.index]
        order += [name for name in means.index if name not in order]
        rows = []
        for name in order:
            ends = zip(means.loc[name], of["random"].loc[name], of["score"].loc[name], strict=True)
            cells = [
                _cell(v, f"{v:+.1f}<small>{a:.0f} → {b:.0f}</small>", most) for v, a, b in ends
            ]
            rows.append((str(name), cells))
        shaded.append(Shaded(str(backbone), list(map(str, means.columns)), rows))
    return shaded


@rc_context(SETTINGS)
def scarcity(table: pd.DataFrame) -> Drawings:
    """Score against the rows of re-tuning, per ratio: mean over the tasks that have all of them."""
    legend, drawings = styles(dict.fromkeys(table["by"])), []
    for (backbone, ratio), part in table.groupby(["backbone", "ratio"], sort=False):
        counts = sorted(part["rows"].unique())
        points_of_task = part.groupby("task")["rows"].transform("size")
        part = part[points_of_task == points_of_task.max()]
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
        title = f" · {_ratios(of)} cut" if len(of) else ""
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
