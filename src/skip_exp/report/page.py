"""The report as one HTML page and as Markdown, both of the same texts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader

from skip_exp.models.sites import Site
from skip_exp.outcomes.registry import METRICS
from skip_exp.report import figures
from skip_exp.report.cells import Gathered, describe_job, main_method, ratio_text, warnings
from skip_exp.report.tables import (
    CAPTION,
    SAMPLE,
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


class Shaded(NamedTuple):
    """A table whose cells are shaded by their values, in [0, 1]."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[int, str] | None]]]  # name; per column shade 0-10 and text


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
    main = report.cells[main_method(report.cells)]
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
        tradeoff=figures.tradeoff(main),
        pruning=figures.pruning(report.cells),
        heat=shade_kept(report.runs.merge(main[["attribution", "variant"]].drop_duplicates())),
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


def shade_kept(runs: pd.DataFrame) -> list[Shaded]:
    """Per task and backbone: percent kept by layer (columns), kind of neuron and ratio (rows)."""
    setting, found = ["sample", "task", "backbone"], []
    for run in runs.to_dict("records"):
        place = {key: run[key] for key in (*setting, "ratio")}
        for name, (left, of) in run["keep_sizes"].items():
            kind, layer = _kind(Site(name), run["keep_sizes"]), Site(name).sublayer.layer
            found.append(place | {"row": kind, "layer": layer, "kept": left / of})
    if not found:
        return []
    shaded = []
    for (sample, task, backbone), group in pd.DataFrame(found).groupby(setting):
        means = group.pivot_table("kept", ["row", "ratio"], "layer")
        rows: list[tuple[str, list[tuple[int, str] | None]]] = []
        for (kind, ratio), shares in zip(means.index, means.to_numpy(), strict=True):
            cells = [None if pd.isna(x) else (round(10 * x), f"{100 * x:.0f}") for x in shares]
            rows.append((f"{kind} {ratio_text(ratio)}", cells))
        title = f"{task} · {backbone} {SAMPLE}" if sample else f"{task} · {backbone}"
        shaded.append(Shaded(title, [str(layer + 1) for layer in means], rows))
    return shaded


def _kind(site: Site, sites: Sequence[str]) -> str:
    """``heads``; with the stack and ``cross`` where there is more than one of it."""
    words = [site.kind]
    if site.sublayer.part == "cross":
        words.insert(0, "cross")
    if len({Site(name).sublayer.stack for name in sites}) > 1:
        words.insert(0, site.sublayer.stack[:3])
    return " ".join(words)
