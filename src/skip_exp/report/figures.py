"""From cells to figures: what is plotted, not how."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from skip_exp.report.cells import Cell, Stat, at_chance, front, majority
from skip_exp.report.overlap import kind
from skip_exp.report.svg import STYLES, HeatRow, Plot, Point, Series
from skip_exp.report.tables import spread

Styles = dict[str, str]  # name of a series to its style, the same in every plot of a figure


def styles(names: Sequence[str]) -> Styles:
    """Colours in order of appearance; the random control is always the muted one."""
    others = [name for name in dict.fromkeys(names) if not name.startswith("random")]
    found = {name: str(index % STYLES) for index, name in enumerate(others)}
    return found | {name: "control" for name in names if name.startswith("random")}


def method(cell: Cell) -> str:
    """How the kept neurons were chosen, in words."""
    setting = cell.setting
    return setting.attribution + (f" ({setting.variant})" if setting.variant else "")


def tradeoff(gathered: Sequence[Cell], main: Callable[[Cell], bool]) -> tuple[list[Plot], Styles]:
    """Final metric against measured speed-up: a plot per task, a Pareto front per backbone."""
    shown = _ordered(cell for cell in gathered if main(cell) and cell.speedup())
    marks = styles([cell.setting.backbone for cell in shown])
    plots = []
    for (_, task), mine in groupby(shown, lambda c: (c.is_sample, c.setting.task)):
        cells = list(mine)
        series = []
        for backbone, group in groupby(cells, key=lambda cell: cell.setting.backbone):
            points = _speed_points(list(group))
            line = front((point.x, point.y) for point in points)
            series.append(Series(backbone, marks[backbone], points, line))
        if all(point.hollow for each in series for point in each.points):
            continue  # dense alone tells nothing
        label = f"{cells[0].metric} × 100"
        plots.append(Plot(_titled(task, cells), "speed-up, times dense", label, series))
    return plots, marks


def _ordered(cells: Iterable[Cell]) -> list[Cell]:
    """Real data first: a plot never joins it with generated data."""
    return sorted(cells, key=lambda cell: (cell.is_sample, cell.setting))


def _titled(name: str, cells: Sequence[Cell]) -> str:
    marks = " *sample*" if any(cell.is_sample for cell in cells) else ""
    return name + marks + (" (at chance)" if all(at_chance(cell) for cell in cells) else "")


def _speed_points(cells: Sequence[Cell]) -> list[Point]:
    dense = cells[0].stat("metric", "dense")
    name = cells[0].setting.backbone
    points = []
    if dense:
        title = f"{name}, dense: {spread(dense)} at 1x"
        points.append(Point(1.0, 100 * dense.mean, title, _scaled(dense), hollow=True))
    for cell in cells:
        final, speed = cell.stat("metric", "final"), cell.speedup()
        if final and speed:
            at = f"{spread(speed, 1, 2, 'x')}, n={final.n}"
            title = f"{name}, ratio {cell.setting.ratio_text}: {spread(final)} at {at}"
            points.append(Point(speed.mean, 100 * final.mean, title, _scaled(final)))
    return points


def _scaled(value: Stat) -> float | None:
    return None if value.std is None else 100 * value.std


def pruning(gathered: Sequence[Cell]) -> tuple[list[Plot], Styles]:
    """Metric against the fraction pruned, per task and backbone: final, and before tuning again."""
    done = _ordered(cell for cell in gathered if cell.runs)
    marks = styles([method(cell) for cell in done])
    plots = []
    for (task, backbone, _), mine in groupby(done, _panel):
        cells = list(mine)
        series = [
            line
            for name in sorted({method(cell) for cell in cells}, key=list(marks).index)
            for line in _lines(name, marks[name], [c for c in cells if method(c) == name])
        ]
        if not any(line.points for line in series):
            continue
        title = _titled(f"{task} · {backbone}", cells)
        label = f"{cells[0].metric} × 100"
        rules = _rules(cells)
        plots.append(Plot(title, "block parameters pruned, %", label, series, rules, (0, 100)))
    return plots, marks


def _panel(cell: Cell) -> tuple[str, str, bool]:
    return cell.setting.task, cell.setting.backbone, cell.is_sample


def _lines(name: str, style: str, cells: Sequence[Cell]) -> list[Series]:
    """Final (solid) and before tuning again (dashed), both starting from dense at zero."""
    dense = cells[0].stat("metric", "dense")
    found = []
    for phase in ("pruned", "final"):
        points = []
        for cell in cells:
            value, cut = cell.stat("metric", phase), cell.stat("params", "block_pruned")
            if value and cut:
                title = f"{name}, {phase}: {spread(value)} at {100 * cut.mean:.0f} % pruned"
                hollow = phase == "pruned"
                y = 100 * value.mean
                points.append(Point(100 * cut.mean, y, title, _scaled(value), hollow))
        line = sorted((point.x, point.y) for point in points)
        if dense and line:
            line = [(0.0, 100 * dense.mean), *line]
        found.append(Series(f"{name}, {phase}", style, points, line, dashed=phase == "pruned"))
    return found


def _rules(cells: Sequence[Cell]) -> list[tuple[float, str]]:
    chance = majority(cells[0], cells[0].metric)
    return [] if chance is None else [(100 * chance, "majority class")]


def kept(gathered: Sequence[Cell], main: Callable[[Cell], bool]) -> list[tuple[str, list[HeatRow]]]:
    """Per task and backbone: fraction kept by layer (columns), kind of neuron and ratio (rows)."""
    shown = _ordered(c for c in gathered if main(c) and any(r.get("keep_sizes") for r in c.runs))
    found = []
    for (task, backbone, _), group in groupby(shown, _panel):
        cells = list(group)
        maps = [_fractions(cell) for cell in cells]
        layers = 1 + max(layer for each in maps for _, layer in each)
        rows: list[HeatRow] = []
        for name in sorted({name for each in maps for name, _ in each}):
            for cell, each in zip(cells, maps, strict=True):
                rows.append(_heat_row(name, cell, each, layers, gap=cell is cells[0]))
        found.append((_titled(f"{task} · {backbone}", cells), rows))
    return found


def _fractions(cell: Cell) -> dict[tuple[str, int], float]:
    """Mean fraction kept per (kind of neuron, layer)."""
    values: dict[tuple[str, int], list[float]] = {}
    for run in cell.runs:
        sizes = run.get("keep_sizes") or {}
        stacks = {site.split(".")[0] for site in sizes}
        for site, (left, total) in sizes.items():
            stack, layer, *rest = site.split(".")
            where = rest[:-1] if rest[:-1] != ["self"] else []
            name = " ".join([*([stack[:3]] if len(stacks) > 1 else []), *where, kind(site)])
            values.setdefault((name, int(layer)), []).append(left / total)
    return {key: sum(each) / len(each) for key, each in values.items()}


def _heat_row(
    name: str, cell: Cell, values: dict[tuple[str, int], float], layers: int, gap: bool
) -> HeatRow:
    ratio = cell.setting.ratio_text
    row = [values.get((name, layer)) for layer in range(layers)]
    titles = [
        f"{name}, layer {layer}, ratio {ratio}: {100 * (value or 0):.1f} % kept"
        for layer, value in enumerate(row)
    ]
    return HeatRow(f"{name} {ratio}", row, titles, gap)
