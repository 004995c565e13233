"""One HTML page that needs nothing but itself: no network, no script, no other file."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader

from skip_exp.models.sites import Site
from skip_exp.report import figures
from skip_exp.report.cells import (
    Gathered,
    describe,
    describe_failure,
    main_method,
    ratio_text,
    warnings,
)
from skip_exp.report.tables import CAPTION, SAMPLE, TEXT_COLUMNS


class Shaded(NamedTuple):
    """A table whose cells are shaded by their values, in [0, 1]."""

    title: str
    columns: list[str]
    # Name of the row, and per column (shade 0-10, HTML) or None.
    rows: list[tuple[str, list[tuple[int, str] | None]]]


def page(report: Gathered, text: pd.DataFrame, folders: Sequence[str]) -> str:
    """The report page as HTML; ``text``: the table of the cells."""
    main = report.cells[main_method(report.cells)]
    runs = report.runs.merge(main[["attribution", "variant"]].drop_duplicates())
    counts = {
        "runs": len(report.runs),
        "cells": len(report.cells),
        "tasks": report.cells["task"].nunique(),
        "backbones": report.cells["backbone"].nunique(),
        "seeds": report.runs["seed"].nunique(),
        "failed": len(report.failed),
        "missing": len(report.missing),
    }
    loader = PackageLoader("skip_exp.report")
    layout = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return layout.get_template("page.html.j2").render(
        counts=counts,
        warnings=warnings(report),
        caption=CAPTION,
        text_columns=TEXT_COLUMNS,
        lines=list(zip(text.to_dict("records"), _row_classes(report.cells), strict=True)),
        tradeoff=figures.tradeoff(main),
        pruning=figures.pruning(report.cells),
        heat=kept(runs),
        failed=[describe_failure(run) for _, run in report.failed.iterrows()],
        missing=[describe(job) for _, job in report.missing.iterrows()],
        folders=folders,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _row_classes(cells: pd.DataFrame) -> list[str]:
    is_first = ~cells.duplicated(["task", "backbone"])
    flags = zip(cells["sample"], cells["attribution"] == "random", is_first, strict=True)
    names = ("sample", "control", "first")
    return [" ".join(n for n, is_so in zip(names, row, strict=True) if is_so) for row in flags]


def kept(runs: pd.DataFrame) -> list[Shaded]:
    """Per task and backbone: percent kept by layer (columns), kind of neuron and ratio (rows)."""
    setting = ["sample", "task", "backbone"]
    sites = pd.DataFrame(
        {name: run[name] for name in (*setting, "ratio")}
        | {"row": _kind(Site(site), run["keep_sizes"]), "layer": Site(site).sublayer.layer}
        | {"kept": left / of}
        for run in runs.to_dict("records")
        for site, (left, of) in run["keep_sizes"].items()
    )
    shaded = []
    for (sample, task, backbone), group in sites.groupby(setting) if len(sites) else ():
        means = group.pivot_table("kept", ["row", "ratio"], "layer")
        means.index = [f"{row} {ratio_text(ratio)}" for row, ratio in means.index]
        title = f"{task} · {backbone}" + (f" {SAMPLE}" if sample else "")
        shaded.append(_shaded(title, means, (100 * means).map("{:.0f}".format)))
    return shaded


def _kind(site: Site, sites: Sequence[str]) -> str:
    """``heads``; with the stack and ``cross`` where there is more than one of it."""
    several = len({Site(name).sublayer.stack for name in sites}) > 1
    stack = f"{site.sublayer.stack[:3]} " if several else ""
    return stack + ("cross " if site.sublayer.part == "cross" else "") + site.kind


def _shaded(title: str, values: pd.DataFrame, texts: pd.DataFrame) -> Shaded:
    rows = [
        (str(name), [None if pd.isna(v) else (round(10 * v), t) for v, t in zip(*row, strict=True)])
        for name, *row in zip(values.index, values.to_numpy(), texts.to_numpy(), strict=True)
    ]
    return Shaded(title, [str(column) for column in values], rows)
