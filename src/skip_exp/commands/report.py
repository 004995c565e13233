"""The command that reads results: tables, figures and a page."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from skip_exp.commands.line import add_folders, one_line_errors, parser
from skip_exp.outcomes.registry import METRICS
from skip_exp.report import cells, frame, tables
from skip_exp.report.tables import CAPTION, escape_markdown


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Write tables, figures and one HTML page from the results of jobs.

    Example:

        skip-exp report outputs --output outputs/report

    The folder gets report.md, report.csv, report.tex, report.html and, a row per job, results.csv.
    Exit code: 0, or 1 where there is nothing to read or the reports cannot be written.
    """
    line = parser("report", main.__doc__)
    add_folders(line)
    line.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/report"),
        metavar="DIR",
        help="folder to write (default: outputs/report)",
    )
    options = line.parse_intermixed_args(arguments)
    write(options.folders, options.output)
    return 0


def write(folders: Sequence[str], out: Path) -> None:
    """Print the table; write ``report.{md,csv,tex,html}`` and ``results.csv`` to ``out``.

    Raises:
        SkipError: no results, or ``out`` cannot be written.
    """
    loaded = frame.load(folders)
    gathered = cells.gather(loaded)
    table = tables.lines(gathered.cells)
    contents = {
        "report.md": to_markdown(gathered, table),
        "report.csv": tables.to_csv(gathered.cells),
        "report.tex": tables.latex(table, CAPTION, long=True),
        "report.html": to_html(gathered, table, folders),
        "results.csv": loaded.to_csv(index=False),
    }
    tables.write_files({out / name: content for name, content in contents.items()})
    tables.show(table, "1 cell" if len(table) == 1 else f"{len(table)} cells", CAPTION)
    for line in cells.describe_failed(gathered):
        print(f"failed: {line}")
    print(f"written: {out}/report.html, .md, .csv, .tex; results.csv")


def to_markdown(report: cells.Gathered, table: pd.DataFrame) -> str:
    """The report without its figures."""
    parts = ["# Results"]
    parts += map(escape_markdown, cells.warnings(report))
    parts.append(tables.markdown(table))
    parts.append(escape_markdown(CAPTION))
    failed = [f"- {escape_markdown(line)}" for line in cells.describe_failed(report)]
    if failed:
        parts.append("## Failed")
        parts.append("\n".join(failed))
    return "\n\n".join(parts) + "\n"


def to_html(report: cells.Gathered, table: pd.DataFrame, folders: Sequence[str]) -> str:
    """The report with its figures: one file, without network, scripts or other files."""
    from skip_exp.report import figures  # matplotlib takes half a second: not for a refusal

    counts = {
        "runs": len(report.runs),
        "cells": len(report.cells),
        "tasks": report.cells["task"].nunique(),
        "backbones": report.cells["backbone"].nunique(),
        "seeds": report.runs["seed"].nunique(),
        "failed": len(report.failed),
    }
    loader = PackageLoader("skip_exp.report")
    layout = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return layout.get_template("page.html.j2").render(
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=cells.warnings(report),
        failed=cells.describe_failed(report),
        caption=CAPTION,
        counts=counts,
        classes={name: _column_class(name) for name in table},
        rows=list(zip(table.to_dict("records"), _row_classes(report.cells), strict=True)),
        tradeoff=figures.tradeoff(report.cells[cells.main_method(report.cells)]),
        pruning=figures.pruning(report.cells),
        folders=folders,
    )


def _column_class(name: str) -> str:
    if name == "final" or name in METRICS:
        return "number strong"
    if name in ("variant", "notes", "backbone", "keep by"):
        return "wrap"
    return "" if name in tables.TEXT_COLUMNS else "number"


def _row_classes(rows: pd.DataFrame) -> list[str]:
    classes = rows[["sample"]].assign(
        control=rows["attribution"] == "random",
        first=~rows.duplicated(["task", "backbone"]),
    )
    return [" ".join(row.index[row]) for _, row in classes.iterrows()]
