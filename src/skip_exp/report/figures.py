"""Draws the figures of the page with matplotlib, as SVG in the colours of the page."""

import io
import re
from collections.abc import Iterable
from html import escape
from itertools import cycle
from typing import Any, NamedTuple, cast

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skip_exp.report.cells import front
from skip_exp.report.tables import SAMPLE

WIDTH = 340  # points, which are the page's pixels
HEIGHT = 240
INK = {  # the page's colours for a light background, by their names in page.css
    "c0": "#0067a8", "c1": "#c2410c", "c2": "#0a7d5a", "c3": "#a3449a", "c4": "#8a6100",
    "c5": "#475569", "control": "#8a919b", "muted": "#57606a", "fg": "#1b1f24",
    "line": "#d8dee4", "panel": "#f7f8fa",
}  # fmt: skip
PLOT_SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "skip_exp", "font.size": 11,
    "axes.edgecolor": INK["muted"], "axes.labelcolor": INK["fg"], "grid.color": INK["line"],
    "xtick.color": INK["muted"], "ytick.color": INK["muted"], "text.color": INK["muted"],
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "ytick.major.size": 0, "axes.axisbelow": True, "lines.markersize": 6.5,
}  # fmt: skip


class Style(NamedTuple):
    """Colour is never the only difference."""

    colour: str  # of INK
    marker: str  # matplotlib's
    glyph: str  # the same in a text


STYLES = [
    Style("c0", "o", "●"), Style("c1", "s", "■"), Style("c2", "D", "◆"),
    Style("c3", "^", "▲"), Style("c4", "v", "▼"), Style("c5", "P", "✚"),
]  # fmt: skip
CONTROL = Style("control", "x", "✕")
MAJORITY = "majority class"  # named in the legend alone: in the drawing it would cover a curve
Drawings = tuple[list[tuple[str, str]], dict[str, Style]]  # titles with their SVG; the legend


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Styles in order of appearance; the random control is always the muted one."""
    distinct = list(dict.fromkeys(names))
    methods = [name for name in distinct if not name.startswith("random")]
    chosen = dict(zip(methods, cycle(STYLES), strict=False))
    for name in distinct:
        chosen.setdefault(name, CONTROL)
    return chosen


@rc_context(PLOT_SETTINGS)
def tradeoff(cells: pd.DataFrame) -> Drawings:
    """Final metric against measured speed-up: a figure per task, a Pareto front per backbone."""
    # Dense alone shows no trade-off.
    shown = cells.dropna(subset=["latency/speedup mean", "metric/final mean"])
    legend = styles(shown["backbone"])
    drawings = []
    for (_, task), part in shown.groupby(["sample", "task"]):
        axes = _axes("speed-up, times dense", part)
        for backbone, group in part.groupby("backbone"):
            dense = _points(group.head(1), "dense", 1.0)
            final = _points(group, "final", group["latency/speedup mean"])
            add(axes, legend[str(backbone)], final, front(pd.concat([dense, final])))
            add(axes, legend[str(backbone)], dense, dense, is_hollow=True)
        drawings.append(_svg(axes, str(task), part))
    return drawings, legend


@rc_context(PLOT_SETTINGS)
def pruning(cells: pd.DataFrame) -> Drawings:
    """Metric against the fraction pruned, per task and backbone: pruned and final."""
    variant = (" (" + cells["variant"] + ")").where(cells["variant"] != "", "")
    cells = cells.assign(method=cells["attribution"] + variant)
    legend = styles(cells["method"])
    drawings = []
    shown = cells.dropna(subset=["metric/pruned mean", "metric/final mean"], how="all")
    shown = shown.dropna(subset=["params/block_pruned mean"])
    for (_, task, backbone), part in shown.groupby(["sample", "task", "backbone"]):
        axes = _axes("block parameters pruned, %", part)
        axes.set_xlim(0, 100)
        majority = part["majority"].iloc[0]
        if pd.notna(majority):
            axes.axhline(100 * majority, color=INK["muted"], linestyle=":", lw=1, clip_on=False)
            legend[MAJORITY] = Style("muted", "", "⋯")
        for name, group in part.groupby("method", sort=False):
            dense = _points(group.head(1), "dense", 0.0)
            for phase in ("pruned", "final"):
                points = _points(group, phase, 100 * group["params/block_pruned mean"])
                path = pd.concat([dense, points.sort_values("x")])
                add(axes, legend[str(name)], points, path, is_hollow=phase == "pruned")
        drawings.append(_svg(axes, f"{task} · {backbone}", part))
    return drawings, legend


def _points(cells: pd.DataFrame, phase: str, x: Any) -> pd.DataFrame:
    y = 100 * cells[f"metric/{phase} mean"]
    std = 100 * cells[f"metric/{phase} std"]
    return pd.DataFrame({"x": x, "y": y, "std": std}).dropna(subset=["x", "y"])


def _axes(x_label: str, cells: pd.DataFrame) -> Axes:
    axes = Figure(figsize=(WIDTH / 72, HEIGHT / 72)).add_axes((0.14, 0.17, 0.82, 0.77))
    axes.grid(axis="y", clip_on=False)
    axes.set(xlabel=x_label, ylabel=f"{cells['metric'].iloc[0]}, %")
    axes.locator_params(nbins=5)
    return axes


def add(
    axes: Axes, style: Style, points: pd.DataFrame, path: pd.DataFrame, is_hollow: bool = False
) -> None:
    """Marks at the points (x, y, std), with error bars, and a line along the path.

    Nothing is clipped, because clip paths are links to names that must be unique on the page.
    """
    if points.empty:
        return
    colour = INK[style.colour]
    if len(path) > 1:
        axes.plot(
            path["x"],
            path["y"],
            "--" if is_hollow else "-",
            color=colour,
            clip_on=False,
            linewidth=1.3 if is_hollow else 1.8,
        )
    axes.errorbar(
        points["x"],
        points["y"],
        points["std"],
        fmt=style.marker,
        color=colour,
        clip_on=False,
        elinewidth=1.2,
        markerfacecolor=INK["panel"] if is_hollow else colour,
        markeredgewidth=1.5,
    )


def _svg(axes: Axes, title: str, cells: pd.DataFrame) -> tuple[str, str]:
    """Title, with marks, and drawing: colours of the page, as wide as there is room, no links."""
    if cells["sample"].any():
        title += f" {SAMPLE}"
    if cells["at chance"].all():
        title += " (at chance)"
    content = io.StringIO()
    cast(Figure, axes.figure).savefig(
        content, format="svg", transparent=True, metadata={"Date": None}
    )
    _, _, svg = content.getvalue().partition("<svg")
    svg = re.sub("^[^>]*>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # names must be unique on the page
    for name, colour in INK.items():
        svg = svg.replace(colour, f"var(--{name})")
    label = escape(f"{title}: {axes.get_ylabel()} against {axes.get_xlabel()}")
    return title, f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{svg}'
