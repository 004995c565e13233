"""The report as one HTML page and as Markdown, both of the same texts."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
from jinja2 import Environment, PackageLoader

from skip_exp.outcomes.registry import METRICS
from skip_exp.report import figures
from skip_exp.report.cells import Gathered, describe_job, main_method, warnings
from skip_exp.report.tables import (
    CAPTION,
    TEXT_COLUMNS,
    escape_markdown,
    lines,
    markdown,
)


class Texts:
    """All that a report says in words, for any format; a line per failed job."""

    def __init__(self, report: Gathered) -> None:
        self.warnings = warnings(report)
        self.table = lines(report.cells)
        self.failed = [describe_job(job) for job in report.failed.itertuples()]


def to_markdown(texts: Texts) -> str:
    """The report without its figures."""
    parts = ["# Results", *map(escape_markdown, texts.warnings)]
    parts += [markdown(texts.table), escape_markdown(CAPTION)]
    if texts.failed:
        parts += ["## Failed"]
        parts += ["\n".join(f"- {escape_markdown(line)}" for line in texts.failed)]
    return "\n\n".join(parts) + "\n"


def to_html(texts: Texts, report: Gathered, folders: Sequence[str]) -> str:
    """The report with its figures: one file, without network, scripts or other files."""
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
        texts=texts,
        caption=CAPTION,
        counts=counts,
        classes={name: _column_class(name) for name in texts.table},
        rows=list(zip(texts.table.to_dict("records"), _row_classes(report.cells), strict=True)),
        tradeoff=figures.tradeoff(report.cells[main_method(report.cells)]),
        pruning=figures.pruning(report.cells),
        folders=folders,
    )


def _column_class(name: str) -> str:
    if name in METRICS:
        return "number strong"
    if name in ("variant", "notes", "backbone", "keep by"):
        return "wrap"
    return "" if name in TEXT_COLUMNS else "number"


def _row_classes(cells: pd.DataFrame) -> list[str]:
    classes = cells[["sample"]].assign(
        control=cells["attribution"] == "random",
        first=~cells.duplicated(["task", "backbone"]),
    )
    return [" ".join(row.index[row]) for _, row in classes.iterrows()]
