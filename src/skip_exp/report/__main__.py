"""``python -m skip_exp.report [FOLDER ...] [--out DIR]``: tables and a page from result files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.report import tables
from skip_exp.report.cells import Gathered, gather
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
    """Print the table and write ``report.{md,csv,tex,html}`` to ``out``.

    Raises:
        SkipError: no results, or ``out`` cannot be written.
    """
    found = results.load(folders)
    if not found:
        raise SkipError(f"no {results.FILE} below {', '.join(folders)}: run a job first")
    report = gather(found)
    lines = tables.rows(report.cells)
    texts = {
        "report.md": _markdown(report, lines),
        "report.csv": tables.to_csv(report.cells),
        "report.tex": tables.latex(lines) + "\n",
        "report.html": page(report, folders),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SkipError(f"--out {out}: cannot be written: {error.strerror}") from error
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(tables.console(lines))
    for text in _open(report):
        console.print(text, markup=False, highlight=False)
    console.print(f"written: {out}/report.html, .md, .csv, .tex", highlight=False)


def _open(report: Gathered) -> list[str]:
    failed = [f"failed: {tables.describe_failure(each)}" for each in report.failed]
    return failed + [f"missing: {tables.describe(*point)}" for point in report.missing]


def _markdown(report: Gathered, lines: Sequence[dict[str, str]]) -> str:
    parts = ["# Results", *warnings(report.cells), tables.markdown(lines), tables.CAPTION]
    left = _open(report)
    if left:
        parts += ["## Failed and missing", "\n".join(f"- {text}" for text in left)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
