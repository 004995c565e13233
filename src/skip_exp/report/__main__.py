"""``python -m skip_exp.report [FOLDER ...] [--out DIR]``: tables and a page from result files.

A FOLDER may be a ``results.csv`` that an earlier report wrote.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from skip_exp.errors import SkipError
from skip_exp.report import cells, frame, tables
from skip_exp.report.page import page, warnings


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is nothing to read or the reports cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m skip_exp.report", description=__doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    parser.add_argument("--out", type=Path, default=Path("outputs/report"), metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        write(options.folders, options.out)
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write(folders: Sequence[str], out: Path) -> None:
    """Print the table; write ``report.{md,csv,tex,html}`` and ``results.csv`` to ``out``.

    Raises:
        SkipError: no results, or ``out`` cannot be written.
    """
    loaded = frame.load(folders)
    report = cells.gather(loaded)
    text = tables.lines(report.cells)
    texts = {
        "report.md": _markdown(report, text),
        "report.csv": tables.to_csv(report.cells),
        "report.tex": tables.latex(text, tables.CAPTION, long=True),
        "report.html": page(report, text, folders),
        "results.csv": frame.to_compact(loaded),
    }
    tables.save({out / name: content for name, content in texts.items()})
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(tables.console(text, caption=tables.CAPTION))
    for line in _open(report):
        console.print(line, markup=False, highlight=False)
    console.print(f"written: {out}/report.html, .md, .csv, .tex; results.csv", highlight=False)


def _open(report: cells.Gathered) -> list[str]:
    failed = [f"failed: {cells.describe_failure(run)}" for _, run in report.failed.iterrows()]
    return failed + [f"missing: {cells.describe(job)}" for _, job in report.missing.iterrows()]


def _markdown(report: cells.Gathered, text: pd.DataFrame) -> str:
    parts = ["# Results", *warnings(report), tables.markdown(text), tables.CAPTION]
    left = _open(report)
    if left:
        parts += ["## Failed and missing", "\n".join(f"- {line}" for line in left)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
