"""``bench.json`` and ``bench.md``: the same reports give the same text."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skip_exp.bench.row import Reach, Report, Row, to_plain
from skip_exp.machine import files

HEAD = ("what", "setting", "ours", "theirs", "ratio", "reach", "met")
PICTURE = "growth.png"
NOTES = (
    "Medians of calls that take turns in one process, after a warm-up; ± half the interquartile "
    "range of the ratios. *contended*: other processes used the machine meanwhile, so the figure "
    "is shown and not judged."
)


def to_json(machine: dict[str, Any], quick: bool, reports: Sequence[Report]) -> str:
    """Everything that was measured, for programs."""
    found = [
        asdict(report) | {"rows": [to_plain(row) for row in report.rows]} for report in reports
    ]
    content = {"quick": quick, "machine": machine, "comparisons": found}
    return json.dumps(content, indent=1) + "\n"


def to_markdown(machine: dict[str, Any], quick: bool, reports: Sequence[Report]) -> str:
    """A table per comparison, with what each figure should reach beside it."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
    parts = ["# Side by side", f"Device: {machine['device']}; {where}. {versions}.", NOTES]
    if quick:
        parts.append("**Quick run: it shows that everything runs; its figures are no result.**")
    return "\n\n".join([*parts, *(part for each in reports for part in _section(each))]) + "\n"


def _section(report: Report) -> list[str]:
    parts = [f"## {report.title}", report.about]
    if report.error is not None:
        return [*parts, f"**failed**: {report.error}"]
    lines = [HEAD, ["---"] * len(HEAD), *map(cells, report.rows)]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if report.name == "growth":
        parts.append(f"![Growth]({PICTURE})")
    return parts


def cells(row: Row) -> list[str]:
    """The cells of one row, in the order of HEAD."""
    ratio = figure(row.ratio)
    if row.ratio is not None and row.spread is not None:
        ratio += f" ± {figure(row.spread)}"
    verdict = {True: "yes", False: "**no**", None: ""}[row.met]
    figures = [_with_unit(row.ours, row.unit), _with_unit(row.theirs, row.unit), ratio]
    told = reach(row.reach, row.unit)
    return [row.name, row.setting, *figures, told, "*contended*" if row.contended else verdict]


def figure(value: float | None) -> str:
    """Three digits or so, without an exponent where it can be read."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size == 0:
        return "0"
    if size >= 0.01:
        return f"{value:.2f}"
    return f"{value:.1e}"


def _with_unit(value: float | None, unit: str) -> str:
    return " ".join(part for part in (figure(value), unit) if part) if value is not None else ""


def reach(bounds: Reach | None, unit: str) -> str:
    """``≥ 2.5``, ``≤ 1.05`` or ``0.95 to 1.05``, with the unit where it is of our figure."""
    if bounds is None:
        return ""
    unit = f" {unit}" if bounds.of == "ours" and unit else ""
    what = "ours " if bounds.of == "ours" else ""
    if bounds.low is not None and bounds.high is not None:
        return f"{what}{figure(bounds.low)} to {figure(bounds.high)}{unit}"
    if bounds.low is not None:
        return f"{what}≥ {figure(bounds.low)}{unit}"
    return f"{what}≤ {figure(bounds.high)}{unit}"


def write(out: Path, machine: dict[str, Any], quick: bool, reports: Sequence[Report]) -> None:
    """Both files into ``out``. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    files.replace(out / "bench.json", to_json(machine, quick, reports).encode())
    files.replace(out / "bench.md", to_markdown(machine, quick, reports).encode())
