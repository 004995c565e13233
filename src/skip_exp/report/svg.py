"""Plots as inline SVG whose colours are CSS classes, so that one page serves light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 40
STYLES = 6  # colours, each with a marker of its own: colour is never the only difference

_MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",  # disc
    "M-3.6,-3.6h7.2v7.2h-7.2z",  # square
    "M0,-5L5,0L0,5L-5,0z",  # diamond
    "M0,-4.8L4.8,3.8H-4.8z",  # triangle
    "M0,4.8L4.8,-3.8H-4.8z",  # triangle down
    "M-4.5,-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",  # cross
)


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    title: str  # shown when pointed at
    spread: float | None = None  # deviation of y
    hollow: bool = False


@dataclass(frozen=True)
class Series:
    label: str
    style: str  # "0" to "5", or "control"
    points: Sequence[Point] = ()
    line: Sequence[tuple[float, float]] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    rules: Sequence[tuple[float, str]] = field(default=())  # horizontal: (y, label)
    x_range: tuple[float, float] | None = None


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round steps (1, 2, 2.5 or 5 times a power of ten) from at or below low to at or above high.

    >>> ticks(0, 52)
    [0.0, 20.0, 40.0, 60.0]
    """
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 10) for index in range(first, last + 1)]


def marker(style: str, hollow: bool = False) -> str:
    """The mark of a series, centred at the origin."""
    shape = _MARKERS[int(style) % STYLES] if style.isdigit() else "M-3,-3L3,3M3,-3L-3,3"
    return f'<path class="m s{style}{" hollow" if hollow else ""}" d="{shape}"/>'


def draw(plot: Plot) -> str:
    """One plot as an ``<svg>`` element."""
    points = [point for series in plot.series for point in series.points]
    ys = [point.y + sign * (point.spread or 0) for point in points for sign in (-1, 1)]
    ys += [y for y, _ in plot.rules]
    xs = [point.x for point in points]
    if not points:
        return ""
    x_ticks = ticks(*(plot.x_range or (min(xs), max(xs))))
    y_ticks = ticks(min(ys), max(ys))
    axes = _Axes((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    body = [_grid(axes, x_ticks, y_ticks, plot)]
    body += [_rule(axes, y, label) for y, label in plot.rules]
    body += [_series(axes, series) for series in plot.series]
    label = f"{plot.title}: {plot.y_label} against {plot.x_label}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>"
    )


class _Axes:
    """Data to picture coordinates."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = x, y

    def x(self, value: float) -> str:
        low, high = self.x_range
        return f"{LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT):.1f}"

    def y(self, value: float) -> str:
        low, high = self.y_range
        return f"{HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM):.1f}"


def _grid(axes: _Axes, x_ticks: Sequence[float], y_ticks: Sequence[float], plot: Plot) -> str:
    base, parts = HEIGHT - BOTTOM, []
    for value in y_ticks:
        y = axes.y(value)
        parts.append(f'<path class="grid" d="M{LEFT},{y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{y}" dy=".32em">{value:g}</text>')
    for value in x_ticks:
        x = axes.x(value)
        parts.append(f'<path class="axis" d="M{x},{base}v4"/>')
        parts.append(f'<text class="tick mid" x="{x}" y="{base + 16}">{value:g}</text>')
    parts.append(f'<path class="axis" d="M{LEFT},{base}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="label mid" x="{middle}" y="{HEIGHT - 5}">{escape(plot.x_label)}</text>'
    )
    turned = f'transform="translate(11,{(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)"'
    parts.append(f'<text class="label mid" {turned}>{escape(plot.y_label)}</text>')
    return "".join(parts)


def _rule(axes: _Axes, value: float, label: str) -> str:
    y = axes.y(value)
    line = f'<path class="rule" d="M{LEFT},{y}H{WIDTH - RIGHT}"/>'
    return (
        f'{line}<text class="tick end" x="{WIDTH - RIGHT}" y="{y}" dy="-4">{escape(label)}</text>'
    )


def _series(axes: _Axes, series: Series) -> str:
    kind = f"s{series.style}{' dashed' if series.dashed else ''}"
    parts = []
    if len(series.line) > 1:
        path = "L".join(f"{axes.x(x)},{axes.y(y)}" for x, y in series.line)
        parts.append(f'<path class="l {kind}" d="M{path}"/>')
    for point in series.points:
        x = axes.x(point.x)
        if point.spread:
            low, high = axes.y(point.y - point.spread), axes.y(point.y + point.spread)
            parts.append(f'<path class="l thin s{series.style}" d="M{x},{low}V{high}"/>')
        parts.append(
            f'<g transform="translate({x},{axes.y(point.y)})"><title>{escape(point.title)}</title>'
            f"{marker(series.style, point.hollow)}</g>"
        )
    return "".join(parts)


@dataclass(frozen=True)
class HeatRow:
    label: str
    values: Sequence[float | None]  # one per column, in [0, 1]; None where there is no cell
    titles: Sequence[str]
    gap: bool = False  # set apart from the row above


def heat(name: str, columns: Sequence[str], rows: Sequence[HeatRow]) -> str:
    """A heat map as an ``<svg>`` element; each cell says its value in percent."""
    size, height = 26, 19  # a number of three digits fits
    left = max(80, round(6.3 * max((len(row.label) for row in rows), default=0)) + 8)
    width, y, body = left + size * len(columns) + 2, 18.0, []
    for index, column in enumerate(columns):
        x = left + size * (index + 0.5)
        body.append(f'<text class="tick mid" x="{x}" y="12">{escape(column)}</text>')
    for row in rows:
        y += 6 if row.gap else 0
        mid = y + height / 2
        body.append(f'<text class="tick" x="0" y="{mid}" dy=".32em">{escape(row.label)}</text>')
        for index, (value, title) in enumerate(zip(row.values, row.titles, strict=True)):
            if value is not None:
                body.append(_heat_cell(left + size * index, y, size, height, value, title))
        y += height
    limits = f"min-width:{width * 0.8:g}px;max-width:{width * 1.15:g}px"
    return (
        f'<svg class="heat" viewBox="0 0 {width} {y + 2:g}" style="{limits}"'
        f' role="img" aria-label="{escape(name)}">{"".join(body)}</svg>'
    )


def _heat_cell(x: float, y: float, size: float, height: float, value: float, title: str) -> str:
    level = min(10, max(0, round(value * 10)))
    return (
        f'<g class="h{level}"><title>{escape(title)}</title>'
        f'<rect x="{x}" y="{y:g}" width="{size - 1.5}" height="{height - 1.5}" rx="2"/>'
        f'<text class="mid" x="{x + (size - 1.5) / 2}" y="{y + (height - 1.5) / 2:g}" dy=".32em">'
        f"{100 * value:.0f}</text></g>"
    )
