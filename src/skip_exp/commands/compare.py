"""Compare settings: pair the results that differ in one key alone.

Examples:

    skip-exp compare outputs --by attribution                        # all, against the commonest
    skip-exp compare outputs --by attribution=random,activation_gradient
    skip-exp compare outputs --by prune.sites=[ffn],[ffn,heads] --out sites.csv
    skip-exp compare outputs/mine outputs/paper --by folder          # whole recipes

The output has every task's scores, the mean difference, its 95 % interval over the tasks and the
number of pairs. With one task the interval is over the rows of its validation split, which are
resampled; McNemar's exact test is added for accuracy with one seed. KEY may be a group, such as
attribution or retune: then everything in it may differ. The first value is the baseline. To choose
a setting, compare with --score select/final: the selection slice is never the split that is
reported.
"""

from collections.abc import Sequence
from pathlib import Path

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.compose import choices
from skip_exp.report import compare
from skip_exp.report.frame import SCORES, to_csv
from skip_exp.report.tables import save

TABLE_SUFFIXES = (".md", ".csv")


@one_line_errors(1)
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where nothing can be compared or the file cannot be written."""
    line = parser("compare", __doc__)
    line.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    line.add_argument(
        "--by", required=True, metavar="KEY[=A,B]", help="key or group to compare, and its values"
    )
    line.add_argument("--score", choices=SCORES, default=compare.FINAL, help="which score")
    ends = ", ".join(TABLE_SUFFIXES)
    line.add_argument("--out", type=Path, metavar="FILE", help=f"write to FILE, too: {ends}")
    options = line.parse_args(arguments)
    if options.out and options.out.suffix not in TABLE_SUFFIXES:
        line.error(f"--out {options.out}: must end in {ends}")
    key, _, given = options.by.partition("=")
    values = options.folders if key == compare.BY_FOLDER else choices(given) if given else []
    rows = compare.compare(compare.load(options.folders), key, values, options.score)
    page = compare.page(rows, key, options.score)
    if options.out:
        save({options.out: page if options.out.suffix == ".md" else to_csv(rows)})
    print(page, end="")
    if options.out:
        print(f"\nwritten: {options.out}")
    return 0
