"""The table of the README: of every kind of figure the one that is least favourable to us."""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.bench.row import Report, Row
from skip_exp.bench.writer import HEAD, cells
from skip_exp.errors import SkipError
from skip_exp.machine import files

START, END = "<!-- make bench OUT=docs wrote this table -->", "<!-- until here -->"


def margin(row: Row) -> float:
    """How far beyond its reach a figure is, as a fraction of the bound; below 0 where it fails."""
    assert row.reach is not None
    value = row.judged
    if value is None:
        return float("-inf")
    low, high = row.reach.low, row.reach.high
    beyond = [] if low is None else [(value - low) / abs(low)]
    beyond += [] if high is None else [(high - value) / abs(high)]
    return min(beyond)


def summary(reports: Sequence[Report]) -> str:
    """A Markdown table: one row per comparison and name that has a reach, the one nearest to it."""
    lines = [["comparison", *HEAD], ["---"] * (1 + len(HEAD))]
    for report in reports:
        if report.error is not None:
            lines.append([report.title, *[""] * (len(HEAD) - 1), "**failed**"])
        judged = [row for row in report.rows if row.reach is not None]
        for name in dict.fromkeys(row.name for row in judged):
            same = [row for row in judged if row.name == name]
            quiet = [row for row in same if not row.contended]
            lines.append([report.title, *cells(min(quiet or same, key=margin))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parts(readme: Path) -> tuple[str, str]:
    """What stands before and after the table, the marks included.

    Raises:
        SkipError: there are no such marks.
        OSError: the file cannot be read.
    """
    before, start, rest = readme.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SkipError(f"--readme {readme}: needs the line {START} and, below it, {END}")
    return before + start, end + after


def refresh(readme: Path, reports: Sequence[Report]) -> None:
    """Put the table between the two marks. Raises what :func:`parts` raises."""
    before, after = parts(readme)
    files.replace(readme, f"{before}\n\n{summary(reports)}\n\n{after}".encode())
