"""Four panels in one picture, readable at 800 pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, DPI = 8.0, 6.4, 100  # inches; 800 x 640 pixels


@dataclass(frozen=True)
class Line:
    """Points of one line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One plot. A logarithmic axis suits what spans factors; it shows the points' own values."""

    title: str
    x: str
    y: str
    lines: list[Line]
    log_x: bool = False
    log_y: bool = False


def draw(file: Path, panels: Sequence[Panel]) -> None:
    """Write two by two panels as a PNG; the same panels give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for line, mark in zip(panel.lines, "os^D", strict=False):
            axes.plot(line.x, line.y, marker=mark, markersize=5, label=line.name)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(alpha=0.3)
        if panel.log_x:
            axes.set_xscale("log")
            ticks = panel.lines[0].x
            axes.set_xticks(ticks, list(map(_short, ticks)))
            axes.minorticks_off()
        if panel.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.1 * max(max(line.y) for line in panel.lines))
        if len(panel.lines) > 1:
            axes.legend()
    canvas.print_png(file, metadata={"Software": None})


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
