"""One HTML page that needs nothing but itself: no network, no script, no other file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader

from skip_exp.report import figures, svg
from skip_exp.report.cells import Cell, Gathered, at_chance, main_method
from skip_exp.report.overlap import Overlap, overlaps
from skip_exp.report.tables import CAPTION, describe, describe_failure, rows


def page(report: Gathered, folders: Sequence[str]) -> str:
    """The report page as HTML text."""
    gathered = report.cells
    main = main_method(gathered)
    tradeoff, backbones = figures.tradeoff(gathered, main)
    pruning, methods = figures.pruning(gathered)
    environment = Environment(
        loader=PackageLoader("skip_exp.report"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(
        facts=facts(report),
        warnings=warnings(gathered),
        caption=CAPTION,
        lines=list(zip(rows(gathered), gathered, strict=True)),
        tradeoff=[(plot.title, svg.draw(plot)) for plot in tradeoff],
        backbones=_legend(backbones),
        pruning=[(plot.title, svg.draw(plot)) for plot in pruning],
        methods=_legend(methods),
        heat=_heat(gathered, main),
        overlaps=[_matrix(each) for each in overlaps(gathered, main)],
        failed=[describe_failure(result) for result in report.failed],
        missing=[describe(*point) for point in report.missing],
        folders=folders,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def facts(report: Gathered) -> list[tuple[str, str]]:
    """The head of the page: what was read."""
    gathered = report.cells
    runs = [run for cell in gathered for run in cell.runs]
    counts = [
        ("runs", len(runs)),
        ("cells", len(gathered)),
        ("tasks", len({cell.setting.task for cell in gathered})),
        ("backbones", len({cell.setting.backbone for cell in gathered})),
        ("seeds", len({run.get("seed") for run in runs})),
        ("failed", len(report.failed)),
        ("missing", len(report.missing)),
    ]
    return [(name, f"{count:,}") for name, count in counts]


def warnings(gathered: Sequence[Cell]) -> list[str]:
    """What a reader must know before the numbers."""
    said = []
    if any(cell.is_sample for cell in gathered):
        said.append(
            "Rows marked *sample* come from generated stand-in data: they show that the job runs,"
            " not how well the method works."
        )
    runs = [run for cell in gathered for run in cell.runs]
    told = {(run["backbone"], run["backbone_note"]) for run in runs if run.get("backbone_note")}
    said += [f"{backbone}: {note}." for backbone, note in sorted(told)]
    if any(at_chance(cell) for cell in gathered):
        said.append(
            "Cells marked at chance have a dense model that is not above the majority class by two"
            " standard errors: what pruning does there says little."
        )
    if any((run.get("latency") or {}).get("contended") for run in runs):
        said.append(
            "Contended timings were taken beside other load and are not shown as speed-ups; time"
            " them again with python -m skip_exp.benchmark RESULT."
        )
    return said


def _legend(marks: figures.Styles) -> list[tuple[str, str]]:
    return [(name, svg.marker(style)) for name, style in marks.items()]


def _heat(gathered: Sequence[Cell], main: Any) -> list[tuple[str, str]]:
    drawn = []
    for title, lines in figures.kept(gathered, main):
        columns = [str(layer) for layer in range(len(lines[0].values))]
        drawn.append((title, svg.heat(f"{title}: percent kept by layer", columns, lines)))
    return drawn


def _matrix(overlap: Overlap) -> dict[str, Any]:
    """Lower triangle as rows of (shade 0-10, observed, expected by chance) or None."""
    lines = []
    for row in overlap.tasks:
        cells: list[tuple[int, str, str] | None] = []
        for column in overlap.tasks[: overlap.tasks.index(row) + 1]:
            value = overlap.observed.get((column, row))
            expected = overlap.chance.get((column, row), 0.0)
            shade = round(10 * value.mean) if value else 0
            cells.append((shade, f"{value.mean:.2f}", f"{expected:.2f}") if value else None)
        cells += [None] * (len(overlap.tasks) - len(cells))
        lines.append((row, cells))
    title = f"{overlap.backbone} · {overlap.kind} · ratio {overlap.ratio:g}"
    return {"title": title, "tasks": overlap.tasks, "lines": lines}
