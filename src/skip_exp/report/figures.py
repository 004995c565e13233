"""The figures of the page: drawn by matplotlib as SVG whose colours follow the page's."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from skip_exp.report.cells import front, ratio_text
from skip_exp.report.tables import SAMPLE, spread

WIDTH, HEIGHT = 340, 240  # points, which are the page's pixels
INK = {  # the page's colours for a light background, by their names in page.css
    **{"c0": "#0067a8", "c1": "#c2410c", "c2": "#0a7d5a", "c3": "#a3449a", "c4": "#8a6100"},
    **{"c5": "#475569", "control": "#8a919b", "muted": "#57606a", "fg": "#1b1f24"},
    **{"line": "#d8dee4", "panel": "#f7f8fa"},
}
SETTINGS: Any = {
    **{"svg.fonttype": "none", "svg.hashsalt": "skip_exp", "font.size": 11},
    **{"axes.edgecolor": INK["muted"], "axes.labelcolor": INK["fg"], "grid.color": INK["line"]},
    **{"xtick.color": INK["muted"], "ytick.color": INK["muted"], "text.color": INK["muted"]},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False},
    **{"ytick.major.size": 0, "axes.axisbelow": True, "lines.markersize": 6.5},
}


class Style(NamedTuple):
    """Colour is never the only difference."""

    colour: str  # of INK
    marker: str  # matplotlib's
    glyph: str  # the same in a text


STYLES = [
    *(Style("c0", "o", "●"), Style("c1", "s", "■"), Style("c2", "D", "◆")),
    *(Style("c3", "^", "▲"), Style("c4", "v", "▼"), Style("c5", "P", "✚")),
]
CONTROL = Style("control", "x", "✕")


@dataclass(frozen=True)
class Line:
    """One series: ``points`` (x, y, std, title) are marked, ``path`` (x, y) is joined."""

    style: Style
    points: pd.DataFrame
    path: pd.DataFrame
    hollow: bool = False  # dashed path, marks without a filling


@dataclass(frozen=True)
class Panel:
    """One figure of the page."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    x_range: tuple[float, float] | None = None
    rule: float | None = None  # y of the majority class


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Styles in order of appearance; the random control is always the muted one."""
    others = [name for name in dict.fromkeys(names) if not name.startswith("random")]
    chosen = {name: STYLES[index % len(STYLES)] for index, name in enumerate(others)}
    return chosen | {name: CONTROL for name in names if name.startswith("random")}


def tradeoff(cells: pd.DataFrame) -> tuple[list[Panel], dict[str, Style]]:
    """Final metric against measured speed-up: a panel per task, a Pareto front per backbone."""
    shown = cells.dropna(subset=["latency/speedup mean"])
    marks = styles(list(shown["backbone"]))
    panels = []
    for (_, task), part in shown.groupby(["sample", "task"]):
        if part["metric/final mean"].isna().all():
            continue  # dense alone tells nothing
        lines = [
            line
            for backbone, group in part.groupby("backbone")
            for line in _speed_lines(str(backbone), group, marks[str(backbone)])
        ]
        panels.append(Panel(_titled(task, part), "speed-up, times dense", _label(part), lines))
    return panels, marks


def _speed_lines(backbone: str, cells: pd.DataFrame, style: Style) -> Iterator[Line]:
    """Dense as a hollow mark; the ratios, and the front of both."""
    first = cells.iloc[0]
    dense, std = first["metric/dense mean"], first["metric/dense std"]
    title = f"{backbone}, dense: {spread(dense, std)} at 1x"
    start = pd.DataFrame([{"x": 1.0, "y": 100 * dense, "std": 100 * std, "title": title}])
    cells = cells.dropna(subset=["metric/final mean"])
    points = _points(cells, "final", cells["latency/speedup mean"])
    points["title"] = [
        f"{backbone}, ratio {ratio_text(c['ratio'])}: {_spread(c, 'metric/final')}"
        f" at {_spread(c, 'latency/speedup', 1, 2, 'x')}, n={c['n']}"
        for _, c in cells.iterrows()
    ]
    start = start.dropna(subset=["y"])
    yield Line(style, points, front(pd.concat([start, points])[["x", "y"]]))
    yield Line(style, start, start.head(0), hollow=True)


def pruning(cells: pd.DataFrame) -> tuple[list[Panel], dict[str, Style]]:
    """Metric against the fraction pruned, per task and backbone: final, and before tuning again."""
    done = cells[cells["n"] > 0]
    done = done.assign(method=done["attribution"] + _bracketed(done["variant"]))
    marks = styles(list(done["method"]))
    panels = []
    for (_, task, backbone), part in done.groupby(["sample", "task", "backbone"]):
        lines = [
            _pruning_line(name, part[part["method"] == name], phase, style)
            for name, style in marks.items()
            for phase in ("pruned", "final")
            if (part["method"] == name).any()
        ]
        if all(line.points.empty for line in lines):
            continue
        title = _titled(f"{task} · {backbone}", part)
        majority = part["majority"].iloc[0]
        rule = None if pd.isna(majority) else 100 * majority
        x_label = "block parameters pruned, %"
        panels.append(Panel(title, x_label, _label(part), lines, (0, 100), rule))
    return panels, marks


def _bracketed(variants: pd.Series) -> pd.Series:
    return (" (" + variants + ")").where(variants != "", "")


def _pruning_line(name: str, cells: pd.DataFrame, phase: str, style: Style) -> Line:
    """One phase of one method; its path starts from dense at zero."""
    measured = cells.dropna(subset=[f"metric/{phase} mean", "params/block_pruned mean"])
    points = _points(measured, phase, 100 * measured["params/block_pruned mean"])
    points["title"] = [
        f"{name}, {phase}: {_spread(cell, f'metric/{phase}')}"
        f" at {100 * cell['params/block_pruned mean']:.0f} % pruned"
        for _, cell in measured.iterrows()
    ]
    start = pd.DataFrame({"x": [0.0], "y": [100 * cells["metric/dense mean"].iloc[0]]}).dropna()
    path = points[["x", "y"]].sort_values("x")
    path = pd.concat([start, path]) if len(path) else path
    return Line(style, points, path, hollow=phase == "pruned")


def _points(cells: pd.DataFrame, phase: str, x: pd.Series) -> pd.DataFrame:
    y, std = (100 * cells[f"metric/{phase} {kind}"] for kind in ("mean", "std"))
    return pd.DataFrame({"x": x, "y": y, "std": std})


def _spread(cell: pd.Series, name: str, *how: Any) -> str:
    return spread(cell[f"{name} mean"], cell[f"{name} std"], *how)


def _label(cells: pd.DataFrame) -> str:
    return f"{cells['metric'].iloc[0]} × 100"


def _titled(name: str, cells: pd.DataFrame) -> str:
    marks = f" {SAMPLE}" if cells["sample"].any() else ""
    return name + marks + (" (at chance)" if cells["at chance"].all() else "")


def draw(panel: Panel) -> str:
    """One panel as an ``<svg>`` element; what is pointed at says its values."""
    # matplotlib takes half a second to import: only where something is drawn.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        axes = figure.add_axes((0.14, 0.17, 0.82, 0.77))
        axes.grid(axis="y", clip_on=False)
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if panel.rule is not None:
            axes.axhline(panel.rule, color=INK["muted"], linestyle=":", lw=1, clip_on=False)
            axes.annotate("majority class", (1, panel.rule), xycoords=("axes fraction", "data"),
                          xytext=(0, 3), textcoords="offset points", ha="right")  # fmt: skip
        for index, line in enumerate(panel.lines):
            _add(axes, line, f"points-{index}")
        if panel.x_range:
            axes.set_xlim(*panel.x_range)
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(content.getvalue(), panel)


def _add(axes: Any, line: Line, gid: str) -> None:
    """Nothing is clipped: an SVG's clip paths are links by names, which the page has once only."""
    colour, points = INK[line.style.colour], line.points
    thin = {"color": colour, "clip_on": False}
    dashes = {"linestyle": (0, (4, 3)), "lw": 1.3} if line.hollow else {"lw": 1.8}
    if len(line.path) > 1:
        axes.plot(line.path["x"], line.path["y"], **thin, **dashes)
    bars = points.dropna(subset=["std"])
    axes.vlines(bars["x"], bars["y"] - bars["std"], bars["y"] + bars["std"], lw=1.2, **thin)
    if len(points):
        inside = INK["panel"] if line.hollow else colour
        marker = {"marker": line.style.marker, "markerfacecolor": inside, "markeredgewidth": 1.5}
        axes.plot(points["x"], points["y"], linestyle="none", gid=gid, **thin, **marker)


def _for_page(svg: str, panel: Panel) -> str:
    """Inline: colours of the page, as wide as there is room, no addresses, a text per point."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    label = escape(f"{panel.title}: {panel.y_label} against {panel.x_label}")
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    for index, line in enumerate(panel.lines):
        svg = _with_titles(svg, f"points-{index}", list(line.points.get("title", [])))
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # the page would have each name many times
    for name, colour in INK.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def _with_titles(svg: str, gid: str, titles: Sequence[str]) -> str:
    before, group, after = svg.partition(f'<g id="{gid}">')
    for title in titles:
        marks, mark, after = after.partition("<use ")
        attributes, _, after = after.partition("/>")
        before, group = before + group + marks + mark, f"{attributes}><title>{escape(title)}"
        group += "</title></use>"
    return before + group + after
