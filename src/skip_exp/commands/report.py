"""Write tables, figures and one HTML page from the results of jobs.

Example:

    skip-exp report outputs --output outputs/report

The folder gets report.md, report.csv, report.tex, report.html and, a row per job, results.csv.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.report import cells, frame, tables


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where there is nothing to read or the reports cannot be written."""
    line = parser("report", __doc__)
    line.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    line.add_argument("--output", type=Path, default=Path("outputs/report"), metavar="DIR")
    options = line.parse_intermixed_args(arguments)
    write(options.folders, options.output)
    return 0


def write(folders: Sequence[str], out: Path) -> None:
    """Print the table; write ``report.{md,csv,tex,html}`` and ``results.csv`` to ``out``.

    Raises:
        SkipError: no results, or ``out`` cannot be written.
    """
    loaded = frame.load(folders)
    from skip_exp.report import page  # matplotlib takes half a second: not for a refusal

    report = cells.gather(loaded)
    texts = page.Texts(report)
    contents = {
        "report.md": page.to_markdown(texts),
        "report.csv": tables.to_csv(report.cells),
        "report.tex": tables.latex(texts.table, tables.CAPTION, long=True),
        "report.html": page.to_html(texts, report, folders),
        "results.csv": loaded.to_csv(index=False),
    }
    tables.write_files({out / name: content for name, content in contents.items()})
    screen, count = tables.open_screen(), len(texts.table)
    what = "1 cell" if count == 1 else f"{count} cells"
    screen.print(tables.narrow_table(texts.table, what, screen.width, tables.CAPTION))
    failed = [f"failed: {line}" for line in texts.failed]
    for line in (*failed, f"written: {out}/report.html, .md, .csv, .tex; results.csv"):
        screen.print(line, markup=False, highlight=False)
