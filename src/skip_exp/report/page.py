"""The report as one HTML page."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from skip_exp.models.sites import Site
from skip_exp.report import figures
from skip_exp.report.cells import Gathered, describe, main_method, ratio_text, warnings
from skip_exp.report.html import render
from skip_exp.report.tables import CAPTION, SAMPLE, TEXT_COLUMNS


class Shaded(NamedTuple):
    """A table whose cells are shaded by their values, in [0, 1]."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[int, str] | None]]]  # name; per column shade 0-10 and text


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
    return render(
        "page.html.j2",
        counts=counts,
        warnings=warnings(report),
        caption=CAPTION,
        text_columns=TEXT_COLUMNS,
        lines=list(zip(text.to_dict("records"), _row_classes(report.cells), strict=True)),
        tradeoff=figures.tradeoff(main),
        pruning=figures.pruning(report.cells),
        heat=kept(runs),
        failed=list(map(describe, report.failed.itertuples())),
        missing=list(map(describe, report.missing.itertuples())),
        folders=folders,
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
        cells = means.map(lambda mean: (round(10 * mean), f"{100 * mean:.0f}"), na_action="ignore")
        names = [f"{row} {ratio_text(ratio)}" for row, ratio in means.index]
        rows = cells.astype(object).where(means.notna(), None).to_numpy().tolist()
        title = f"{task} · {backbone}" + (f" {SAMPLE}" if sample else "")
        shaded.append(Shaded(title, list(map(str, means)), list(zip(names, rows, strict=True))))
    return shaded


def _kind(site: Site, sites: Sequence[str]) -> str:
    """``heads``; with the stack and ``cross`` where there is more than one of it."""
    several = len({Site(name).sublayer.stack for name in sites}) > 1
    stack = f"{site.sublayer.stack[:3]} " if several else ""
    return stack + ("cross " if site.sublayer.part == "cross" else "") + site.kind
