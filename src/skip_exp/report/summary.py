"""The table at the end of a multirun: one row per job."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def table(results: Sequence[Mapping[str, Any]]) -> Table:
    """The jobs in the order given; attribution and seed only where they differ."""
    # pandas takes a third of a second to import, and this module is imported by every job.
    import pandas as pd

    from skip_exp.report import frame, tables  # they bring pandas

    jobs = frame.rows(results)
    optional = [name for name in ("attribution", "seed") if jobs[name].nunique(dropna=False) > 1]
    columns: dict[str, Any] = {name: jobs[name] for name in ("task", "backbone", *optional)}
    columns |= {"metric": jobs["metric"], "ratio": jobs["ratio"].map("{:g}".format)}
    columns |= {phase: jobs[f"metric/{phase}"].map(tables.percent) for phase in frame.PHASES}
    columns |= {
        "block %": jobs["params/block_pruned"].map(tables.percent),
        "all %": jobs["params/all_pruned"].map(tables.percent),
        "speed-up": map(tables.speed, jobs["latency/speedup"], jobs["contended"]),
        "data": map(tables.source, jobs["data"], jobs["sample"]),
    }
    text = pd.DataFrame({name: list(map(str, values)) for name, values in columns.items()})
    text = text.replace({"": "-", "nan": "-", "<NA>": "-"})
    labels = jobs["backbone_note"].str.split(":").str[0]
    reused = jobs["reused"].map({True: "reused", False: ""})
    notes = [", ".join(filter(None, pair)) for pair in zip(labels, reused, strict=True)]
    text["note"] = ("failed: " + jobs["error"]).where(jobs["status"] != "done", notes)
    if not text["note"].any():
        text = text.drop(columns="note")
    return tables.console(text, f"{len(jobs)} jobs, metrics in percent")
