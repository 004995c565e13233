"""One HTML page that needs nothing but itself: no network, no script, no other file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader

from skip_exp.models.sites import Site
from skip_exp.report import figures
from skip_exp.report.cells import (
    Gathered,
    backbone_notes,
    describe,
    describe_failure,
    main_method,
    ratio_text,
)
from skip_exp.report.overlap import matrices, overlaps
from skip_exp.report.tables import CAPTION, SAMPLE, TEXT_COLUMNS


class Shaded(NamedTuple):
    """A table whose cells are shaded by their values, in [0, 1]."""

    title: str
    columns: list[str]
    # Name of the row, and per column (shade 0-10, text, small text) or None.
    rows: list[tuple[str, list[tuple[int, str, str] | None]]]


def page(report: Gathered, text: pd.DataFrame, folders: Sequence[str]) -> str:
    """The report page as HTML; ``text``: the table of the cells."""
    is_main = main_method(report.cells)
    main = report.cells[is_main]
    tradeoff, backbones = figures.tradeoff(main)
    pruning, methods = figures.pruning(report.cells)
    runs = report.runs.merge(main[["attribution", "variant"]].drop_duplicates())
    environment = Environment(
        loader=PackageLoader("skip_exp.report"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(
        facts=facts(report),
        warnings=warnings(report),
        caption=CAPTION,
        text_columns=TEXT_COLUMNS,
        lines=list(zip(text.to_dict("records"), _row_classes(report.cells), strict=True)),
        tradeoff=[(panel.title, figures.draw(panel)) for panel in tradeoff],
        backbones=backbones,
        pruning=[(panel.title, figures.draw(panel)) for panel in pruning],
        methods=methods,
        heat=kept(runs),
        overlaps=overlap_tables(runs),
        failed=[describe_failure(run) for _, run in report.failed.iterrows()],
        missing=[describe(job) for _, job in report.missing.iterrows()],
        folders=folders,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _row_classes(cells: pd.DataFrame) -> list[str]:
    names = {
        "sample": cells["sample"],
        "control": cells["attribution"] == "random",
        "first": ~cells.duplicated(["task", "backbone"]),
    }
    flags = pd.DataFrame(names)
    return [" ".join(name for name in names if row[name]) for _, row in flags.iterrows()]


def facts(report: Gathered) -> list[tuple[str, str]]:
    """The head of the page: what was read."""
    counts = {
        "runs": len(report.runs),
        "cells": len(report.cells),
        "tasks": report.cells["task"].nunique(),
        "backbones": report.cells["backbone"].nunique(),
        "seeds": report.runs["seed"].nunique(),
        "failed": len(report.failed),
        "missing": len(report.missing),
    }
    return [(name, f"{count:,}") for name, count in counts.items()]


def warnings(report: Gathered) -> list[str]:
    """What a reader must know before the numbers."""
    said = []
    if report.cells["sample"].any():
        said.append(
            "Rows marked *sample* come from generated stand-in data: they show that the job runs,"
            " not how well the method works."
        )
    said += backbone_notes(report.runs)
    if report.cells["at chance"].any():
        said.append(
            "Cells marked at chance have a dense model that is not above the majority class by two"
            " standard errors: what pruning does there says little."
        )
    if report.cells["contended"].any():
        said.append(
            "Contended timings were taken beside other load and are not shown as speed-ups; time"
            " them again with python -m skip_exp.benchmark RESULT."
        )
    return said


def kept(runs: pd.DataFrame) -> list[Shaded]:
    """Per task and backbone: percent kept by layer (columns), kind of neuron and ratio (rows)."""
    names = ["sample", "task", "backbone", "ratio"]
    sites = pd.DataFrame(
        {name: run[name] for name in names}
        | {"row": _kind(site, run["keep_sizes"]), "layer": Site(site).sublayer.layer}
        | {"kept": left / of}
        for run in runs.to_dict("records")
        for site, (left, of) in run["keep_sizes"].items()
    )
    if sites.empty:
        return []
    shaded = []
    for (sample, task, backbone), group in sites.groupby(["sample", "task", "backbone"]):
        means = group.pivot_table("kept", ["row", "ratio"], "layer")
        texts = means.map(lambda value: "" if pd.isna(value) else f"{100 * value:.0f}")
        rows = [f"{row} {ratio_text(ratio)}" for row, ratio in means.index]
        title = f"{task} · {backbone}" + (f" {SAMPLE}" if sample else "")
        shaded.append(_shaded(title, rows, means, texts, texts.map(lambda _: "")))
    return shaded


def _kind(site: str, sites: Sequence[str]) -> str:
    """``heads``; with the stack and ``cross`` where there is more than one of it."""
    sublayer = Site(site).sublayer
    several = len({Site(name).sublayer.stack for name in sites}) > 1
    where = [sublayer.stack[:3]] if several else []
    where += ["cross"] if sublayer.part == "cross" else []
    return " ".join([*where, Site(site).kind])


def overlap_tables(runs: pd.DataFrame) -> list[Shaded]:
    """Overlap of the tasks, in brackets what is expected by chance; on real data only."""
    shaded = []
    for title, observed, chance in matrices(overlaps(runs[~runs["sample"]])):
        texts, expected = observed.map("{:.2f}".format), chance.map("({:.2f})".format)
        shaded.append(_shaded(title, list(observed.index), observed, texts, expected))
    return shaded


def _shaded(title: str, names: list[str], values: Any, texts: Any, small: Any) -> Shaded:
    rows = []
    for index, name in enumerate(names):
        row = zip(values.iloc[index], texts.iloc[index], small.iloc[index], strict=True)
        rows.append((name, [None if pd.isna(v) else (round(10 * v), t, s) for v, t, s in row]))
    return Shaded(title, [str(column) for column in values.columns], rows)
