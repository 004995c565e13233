"""The table at the end of a multirun: one row per job."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from skip_exp.config.checks import is_number
from skip_exp.config.names import STATES
from skip_exp.config.prune import MISSED
from skip_exp.report import frame, tables
from skip_exp.report.cells import at_chance
from skip_exp.results import at

REMARKS = ("variant", "note")  # columns that wrap within their cells
FINAL = "final "  # what columns of metrics beside the main one start with
REMARK = 16  # characters that a remark needs at least


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, as wide as the terminal."""
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table(results, console.width))


def table(results: Sequence[Mapping[str, Any]], width: int = 160) -> Table:
    """The jobs in the order given, within ``width``; attribution and seed only where they differ.

    Where the columns are too wide, values that all jobs share go into the title. Then the sizes,
    which follow from the ratio, and then the metrics beside the main one are left out.
    """
    text = _text(results)
    title = f"{len(text)} job{'' if len(text) == 1 else 's'}, metrics in percent"
    if _width(text) > width:
        shared = [n for n in ("task", "backbone", "metric", "data") if text[n].nunique() == 1]
        title = ", ".join([title, *text[shared].iloc[0]])
        text = text.drop(columns=shared)
    beside = [name for name in text if name.startswith(FINAL)]
    for less in (["block %", "all %"], beside):
        if _width(text) > width:
            text = text.drop(columns=less)
    view, fits = tables.console(text, title), _width(text) <= width
    for column in view.columns:  # at last a name may go over two lines
        column.no_wrap = fits and column.header not in REMARKS
    return view


def _width(text: pd.DataFrame) -> int:
    """Characters that the table needs."""
    remarks, console = text.columns.intersection(list(REMARKS)), Console(width=10_000)
    others = tables.console(text.drop(columns=remarks))
    needed = Measurement.get(console, console.options, others).maximum
    return needed + (REMARK + 1) * len(remarks)


def _text(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The cells of the table."""
    jobs = frame.rows(results)
    optional = [name for name in ("attribution", "seed") if jobs[name].nunique(dropna=False) > 1]
    columns: dict[str, Any] = {name: jobs[name] for name in ("task", "backbone", *optional)}
    several = len(jobs) > 1  # what one job varies is its command
    variants = frame.variants(jobs) if several else [""] * len(jobs)
    columns |= {"variant": variants, "metric": jobs["metric"]}
    columns |= {"ratio": jobs["ratio"].map("{:g}".format)}
    columns |= {phase: jobs[f"metric/{phase}"].map(tables.percent) for phase in STATES}
    columns |= {FINAL + name: _finals(results, name) for name in _beside(results)}
    columns |= {
        "block %": jobs["params/block_pruned"].map(tables.percent),
        "all %": jobs["params/all_pruned"].map(tables.percent),
        "speed-up": map(
            tables.speed, jobs["latency/speedup"], jobs["contended"], jobs["flops/ratio"]
        ),
        "data": map(tables.source, jobs["data"], jobs["sample"]),
        "note": ("failed: " + jobs["error"]).where(jobs["status"] != "done", _notes(jobs)),
    }
    text = pd.DataFrame({name: list(map(str, values)) for name, values in columns.items()})
    text = tables.without_empty(text)
    others = text.columns.difference(["note"])
    return text.assign(**text[others].replace({"": "-", "nan": "-", "<NA>": "-"}))


def _beside(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that tasks ask for beside their main one, in order."""
    asked = dict.fromkeys(name for result in results for name in result.get("metrics") or {})
    main = {(result.get("metric") or {}).get("name") for result in results} - {None}
    return [name for name in asked if name != "extra" and main != {name}]


def _finals(results: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Per job the final model's value of a metric, in percent."""
    finals = (at(result, f"metrics.{name}.final") for result in results)
    return [tables.percent(value if is_number(value) else None) for value in finals]


def _notes(jobs: pd.DataFrame) -> list[str]:
    """Per job what keeps it from being read as a plain result."""
    is_chance = at_chance(jobs.assign(row=range(len(jobs))), ["row"])
    # With `backbone.layers`, `params` are relative to the whole backbone.
    reached = jobs["ratio_reached"].fillna(jobs["params/block_pruned"])
    is_missed = (reached - jobs["ratio"]).abs() > MISSED
    marks = zip(
        jobs["backbone_note"].str.split(":").str[0],
        is_chance.map({True: "at chance", False: ""}),
        ("reached " + reached.map("{:.2f}".format).astype(str)).where(is_missed, ""),
        (jobs["train_rows"].map("{:g} train rows".format)).where(jobs["train_rows"].notna(), ""),
        jobs["reused"].map({True: "reused", False: ""}),
        strict=True,
    )
    return [", ".join(filter(None, texts)) for texts in marks]
