"""``skip-exp compare [FOLDER ...] --by KEY[=BASELINE,VALUE,...]``: is one setting better?

Pairs results that agree in everything but KEY, and shows every task's scores, the mean difference,
its 95 % interval over the tasks and the number of pairs::

    skip-exp compare outputs --by attribution                        # all, against the commonest
    skip-exp compare outputs --by attribution=random,activation_gradient
    skip-exp compare outputs --by prune.sites=[ffn],[ffn,heads] --out sites.csv
    skip-exp compare outputs/mine outputs/paper --by folder          # whole recipes

KEY may be a group, such as ``attribution`` or ``retune``: then everything in it may differ. The
first value is the baseline. To choose a setting, compare with ``--score select/final``: the
selection slice is never the split that is reported.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from skip_exp.config.names import STATES
from skip_exp.errors import SkipError
from skip_exp.report import compare
from skip_exp.report.grid import choices
from skip_exp.report.tables import save

SCORES = [f"{split}/{phase}" for split in ("metric", "select") for phase in STATES]
SUFFIXES = (".md", ".csv", ".jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where nothing can be compared or the file cannot be written."""
    parser = argparse.ArgumentParser(
        prog="skip-exp compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["outputs"])
    parser.add_argument(
        "--by", required=True, metavar="KEY[=A,B]", help="key or group that is compared"
    )
    parser.add_argument("--score", choices=SCORES, default="metric/final", help="which score")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"written too: {SUFFIXES}")
    options = parser.parse_args(arguments)
    if options.out and options.out.suffix not in SUFFIXES:
        parser.error(f"--out {options.out}: must end in {', '.join(SUFFIXES)}")
    key, _, given = options.by.partition("=")
    values = options.folders if key == compare.FOLDER else choices(given) if given else []
    try:
        rows = compare.compare(compare.load(options.folders), key, values, options.score)
        page = compare.page(rows, key, options.score)
        if options.out:
            save({options.out: _text(rows, page, options.out.suffix)})
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page, end="")
    if options.out:
        print(f"\nwritten: {options.out}")
    return 0


def _text(rows: pd.DataFrame, page: str, suffix: str) -> str:
    if suffix == ".md":
        return page
    if suffix == ".csv":
        return str(rows.to_csv(index=False, lineterminator="\n"))
    return str(rows.to_json(orient="records", lines=True))
