"""What a comparison measured, and how it is written: ``bench.md``, ``bench.json``, terminal."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from skip_exp.utils import files

HEAD = ("what", "setting", "ours", "theirs", "ratio", "reach", "met")
NOTES = (
    "Medians of calls that take turns in one process, after a warm-up; ± half the interquartile "
    "range of the ratios. *contended*: other processes took cores meanwhile, so the figure "
    "is shown and not judged."
)
QUICK = "**Quick run: it shows that everything runs; its figures are no result.**"


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        quick: every comparison on little, in minutes; the figures are no result.
        out: folder of tables and logs.
    """

    quick: bool
    out: Path

    @property
    def shape(self) -> str:
        """Of the models with random weights."""
        return "bert-tiny" if self.quick else "bert-base"

    def seconds(self, whole: float) -> float:
        """The time for a measurement: ``whole``, or in a quick run no more than it must."""
        return 0.0 if self.quick else whole


@dataclass(frozen=True)
class Reach:
    """Bounds, both included, of a row's ``ratio`` or of its figure ``ours``."""

    low: float | None = None
    high: float | None = None
    of: str = "ratio"  # ratio | ours


@dataclass(frozen=True)
class Row:
    """One measurement: two figures of the same work, their ratio, and what it should reach.

    Attributes:
        name: what was done.
        setting: on what.
        ours, theirs: figures in ``unit``; ``theirs`` is None where there is nothing beside ours.
        ratio: as the comparison defines it, or None.
        spread: half the interquartile range of the ratio, where it was measured in turns.
        reach: what the figure should reach, or None.
        contended: other processes took cores meanwhile: the figure is shown, not judged.
    """

    name: str
    setting: str
    ours: float | None
    theirs: float | None = None
    unit: str = ""
    ratio: float | None = None
    spread: float | None = None
    reach: Reach | None = None
    contended: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the reach was met; None where there is none, or the figure is not to be judged.

        A figure that is missing, or not a number, meets nothing.
        """
        if self.reach is None or self.contended:
            return None
        value = self.ours if self.reach.of == "ours" else self.ratio
        if value is None or value != value:
            return False
        low, high = self.reach.low, self.reach.high
        return (low is None or value >= low) and (high is None or value <= high)


@dataclass(frozen=True)
class Report:
    """A comparison's rows, or why there are none.

    Attributes:
        about: what ours and theirs are, and which way the ratio goes.
        seconds: what the whole comparison took.
    """

    name: str
    title: str
    about: str
    rows: tuple[Row, ...] = ()
    error: str | None = None
    seconds: float = 0.0


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for JSON, with ``met``."""
    return [asdict(row) | {"met": row.met} for row in rows]


def from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    """What :func:`to_json` gave."""
    fields = [{key: value for key, value in row.items() if key != "met"} for row in rows]
    return tuple(Row(**row | {"reach": row["reach"] and Reach(**row["reach"])}) for row in fields)


def write(out: Path, machine: Mapping[str, Any], quick: bool, reports: Sequence[Report]) -> None:
    """``bench.json`` and ``bench.md`` into ``out``. Raises OSError."""
    comparisons = [asdict(report) | {"rows": to_json(report.rows)} for report in reports]
    content = {"quick": quick, "machine": machine, "comparisons": comparisons}
    files.replace(out / "bench.json", (json.dumps(content, indent=1) + "\n").encode())
    files.replace(out / "bench.md", page(machine, quick, reports).encode())


def page(machine: Mapping[str, Any], quick: bool, reports: Sequence[Report]) -> str:
    """Markdown: a table per comparison, with what each figure should reach beside it."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
    parts = ["# Side by side", f"Device: {machine['device']}; {where}. {versions}.", NOTES]
    parts += [QUICK] if quick else []
    for report in reports:
        failed = report.error is not None
        parts += [f"## {report.title}", report.about]
        parts.append(f"**failed**: {report.error}" if failed else table(report.rows))
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row], width: int = 1000) -> str:
    """A Markdown table; on a terminal of fewer characters than it needs, its cells are folded."""
    columns = Table(*HEAD, box=box.MARKDOWN, header_style=None)
    for row in rows:
        columns.add_row(*cells(row))
    text = io.StringIO()
    Console(file=text, width=width, markup=False, emoji=False, highlight=False).print(columns)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def cells(row: Row) -> list[str]:
    """The cells of one row, in the order of HEAD."""
    verdict = {True: "yes", False: "**no**", None: "*contended*" if row.contended else ""}[row.met]
    ratio = figure(row.ratio)
    if row.ratio is not None and row.spread is not None:
        ratio += f" ± {figure(row.spread)}"
    ours, theirs = figure(row.ours, row.unit), figure(row.theirs, row.unit)
    return [row.name, row.setting, ours, theirs, ratio, bounds(row.reach, row.unit), verdict]


def figure(value: float | None, unit: str = "") -> str:
    """Three digits or so, without an exponent where it can be read; nothing for None."""
    if value is None:
        return ""
    styles = ((100, ",.0f"), (10, ".1f"), (0.01, ".2f"))
    other = ".1e" if value else ".0f"
    style = next((style for least, style in styles if abs(value) >= least), other)
    return f"{value:{style}} {unit}".rstrip()


def bounds(reach: Reach | None, unit: str) -> str:
    """``≥ 2.50``, ``0.95 to 1.05`` or, of our figure, ``ours ≤ 50.0 ms``."""
    if reach is None:
        return ""
    low, high = figure(reach.low), figure(reach.high)
    span = f"{low} to {high}" if low and high else f"≥ {low}" if low else f"≤ {high}"
    return f"ours {span} {unit}".rstrip() if reach.of == "ours" else span
