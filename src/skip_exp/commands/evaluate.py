"""Score a skill or an export on a file with labels: metrics, and what was taken for what.

Example:

    skip-exp evaluate outputs/.../skill test.csv --label verdict

FILE is CSV, JSON, JSON lines or Parquet and has the task's columns. Exit code: 0, or 2 with the
reason in one line.
"""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skip_exp.commands.line import existing_file, one_line_errors, parser
from skip_exp.commands.predict import add_loading, json_line, load

WIDE = 12  # labels; with more, mistakes are listed instead of a matrix
LISTED = 20  # mistakes


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    line = parser("evaluate", __doc__)
    line.add_argument("skill", metavar="SKILL", help="folder of a skill or of an export")
    about = "rows with texts and labels"
    line.add_argument("file", type=existing_file, metavar="FILE", help=about)
    line.add_argument("--label", metavar="COLUMN", help="default: the one that it was trained on")
    line.add_argument("--drop-bad", action="store_true", help="leave out rows that do not fit")
    line.add_argument("--json", action="store_true", help="one line of JSON")
    add_loading(line)
    options = line.parse_args(arguments)
    classifier = load(options.skill, options.backbone, options.precision)
    found = classifier.evaluate(options.file, label=options.label, drop_bad=options.drop_bad)
    if options.json:
        print(json_line(found))
        return 0
    counts = found.pop("confusion")
    rows = found.pop("rows")
    scores = (f"{name} {100 * value:.1f}" for name, value in found.items())
    print(f"{rows:,} rows, in percent: {', '.join(scores)}")
    Console(width=None if Console().is_terminal else 160).print(
        matrix(counts) if len(counts) <= WIDE else mistakes(counts)
    )
    return 0


def matrix(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """True labels in rows, answers in columns."""
    table = Table("true", *map(escape, counts), title="Answers to each true label")
    for name, row in counts.items():
        table.add_row(escape(name), *(str(row[answer] or "") for answer in counts))
    return table


def mistakes(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """The most frequent pairs of a true label and a wrong answer."""
    pairs = [(n, true, answer) for true, row in counts.items() for answer, n in row.items()]
    wrong = sorted((p for p in pairs if p[0] and p[1] != p[2]), key=lambda p: -p[0])
    title = f"The {min(LISTED, len(wrong))} most frequent of {len(wrong)} kinds of mistakes"
    table = Table("true", "answer", "rows", title=title)
    for n, true, answer in wrong[:LISTED]:
        table.add_row(escape(true), escape(answer), str(n))
    return table
