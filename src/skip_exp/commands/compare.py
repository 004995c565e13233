"""Compare settings: pair the results that differ in one key alone.

Examples:

    skip-exp compare outputs --by attribution                # all, against the most frequent
    skip-exp compare outputs --by attribution=random,activation_gradient
    skip-exp compare outputs --by prune.sites=[ffn],[ffn,heads] --output sites.csv

A table has every task's scores, the mean difference with its 95 % interval, and the number of
pairs. KEY may be a group, such as attribution or retune: then everything in it may differ. The
first value is the baseline. Scores are those of the selection slice, on which settings are chosen;
--split validation takes the reported ones.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.compose import choices
from skip_exp.report import compare, frame
from skip_exp.report.tables import open_screen, write_files


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where nothing can be compared or the file cannot be written."""
    line = parser("compare", __doc__)
    line.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    line.add_argument(
        "--by", required=True, metavar="KEY[=A,B]", help="key or group to compare, and its values"
    )
    line.add_argument("--split", choices=compare.SCORES, default="select", help="whose scores")
    line.add_argument(
        "--output", type=Path, metavar="FILE", help="write the rows to a CSV file, too"
    )
    options = line.parse_intermixed_args(arguments)
    key, _, given = options.by.partition("=")
    values = choices(given) if given else []
    rows = compare.compare(frame.load(options.folders), key, values, options.split)
    if options.output:
        write_files({options.output: rows.to_csv(index=False)})
    screen = open_screen()
    for table in compare.make_tables(rows):
        screen.print(table, "")
    for note in compare.notes(rows, options.split):
        screen.print(note, markup=False, highlight=False)
    if options.output:
        print(f"written: {options.output}")
    return 0
