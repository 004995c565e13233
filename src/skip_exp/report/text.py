"""How a result reads in a table: metrics and fractions in percent, nothing shown that is not so."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

Found = Mapping[str, Any]  # one result, as stored

_NUMBERS = ("ratio", "dense", "pruned", "final", "block %", "all %", "speed-up")


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def speedup(result: Found) -> str:
    """``1.95x``; ``contended`` where the timing was disturbed; ``-`` where there is none."""
    latency = result.get("latency") or {}
    if latency.get("contended"):
        return "contended"
    value = latency.get("speedup")
    return "-" if value is None else f"{value:.2f}x"


def source(result: Found) -> str:
    """``local``, ``hub``, or ``*sample*``: generated rows are never told as real ones."""
    if result.get("data_is_sample"):
        return "*sample*"
    return str(result.get("data_source") or "-").split(":")[0]


def backbone_label(result: Found) -> str:
    """What must be known of the backbone wherever it stands in a table; mostly nothing."""
    return str(result.get("backbone_note") or "").partition(":")[0]


def note(result: Found) -> str:
    if result.get("status") != "done":
        return f"failed: {result.get('error')}"
    said = [backbone_label(result), "reused" if result.get("reused") else ""]
    return ", ".join(filter(None, said))


def table(found: Sequence[Found]) -> Table:
    """The jobs of a sweep, one row each; attribution and seed where they differ."""
    optional = [name for name in ("attribution", "seed") if len({r.get(name) for r in found}) > 1]
    notes = any(map(note, found))
    view = Table(title=f"{len(found)} jobs, metrics in percent", title_justify="left")
    for name in ("task", "backbone", *optional, "metric"):
        view.add_column(name)
    for name in _NUMBERS:
        view.add_column(name, justify="right", no_wrap=True)
    view.add_column("data")
    if notes:
        view.add_column("note", overflow="fold")
    for result in found:
        cells = _cells(result, optional) + ([note(result)] if notes else [])
        style = "yellow" if result.get("data_is_sample") else None
        view.add_row(*map(escape, cells), style=style)
    return view


def _cells(result: Found, optional: Sequence[str]) -> list[str]:
    scores, params = result.get("metric") or {}, result.get("params") or {}
    plain = [result.get(name) for name in ("task", "backbone", *optional)]
    plain += [scores.get("name"), result.get("ratio")]
    return [
        *("-" if value is None else str(value) for value in plain),
        *(percent(scores.get(phase)) for phase in ("dense", "pruned", "final")),
        *(percent(params.get(name)) for name in ("block_pruned", "all_pruned")),
        speedup(result),
        source(result),
    ]
