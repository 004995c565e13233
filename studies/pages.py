"""Write the tables of Markdown pages from their CSV files.

Example:

    python -m studies.pages studies/results.md

A table stands between two comments:

    <!-- table: FILE.csv where CONDITION | COLUMN | TITLE = TEMPLATE -->
    <!-- /table -->

FILE.csv lies beside the page. CONDITION is a pandas query that picks rows and may be left out. A
column is one of the file, or a title with a template such as "final = {final:.1f} ± {std:.1f}". A
cell with a missing value is "-".
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import pandas as pd

from skip_exp.report.tables import pipe_rows

TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- /table -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where a page or its CSV file cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    for page in parser.parse_args(arguments).pages:
        try:
            page.write_text(rendered(page), encoding="utf-8")
        except (OSError, KeyError, ValueError) as error:
            sys.exit(f"error: {page}: {error}")
    return 0


def rendered(page: Path) -> str:
    """The page with every table as its CSV file has it now."""
    text = page.read_text(encoding="utf-8")
    return TABLE.sub(lambda m: f"{m[1]}\n{table(page.parent, m[2])}\n\n{m[3]}", text)


def table(folder: Path, asked: str) -> str:
    """The Markdown table that the opening mark asks for."""
    source, *columns = (part.strip() for part in asked.split(" | "))
    name, _, condition = source.partition(" where ")
    frame = pd.read_csv(folder / name).convert_dtypes()
    rows = (frame.query(condition) if condition else frame).to_dict("records")
    templates = {
        title: template or f"{{{title}}}"
        for title, _, template in (column.partition(" = ") for column in columns)
    }
    body = [[cell(template, row) for template in templates.values()] for row in rows]
    return pipe_rows([templates, ["---"] * len(templates), *body])


def cell(template: str, row: Mapping[Any, Any]) -> str:
    """What a template shows of a row; ``-`` where a value of it is missing."""
    used = [name for _, name, _, _ in Formatter().parse(template) if name]
    return "-" if any(pd.isna(row[name]) for name in used) else template.format_map(row)


if __name__ == "__main__":
    sys.exit(main())
