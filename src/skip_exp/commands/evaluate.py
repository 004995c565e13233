"""Score a skill or export on rows with labels: metrics, classes, and confusions.

Examples:

    skip-exp evaluate outputs/.../skill test.csv --label verdict
    skip-exp evaluate outputs/.../skill test.csv --errors mistakes.csv    # the misclassified rows
    skip-exp evaluate outputs/.../skill test.csv --reject 0.7             # what it is sure of

FILE is CSV, TSV, JSON, JSON lines or Parquet and has the task's columns. KEY=VALUE says how it is
read: data.sep=; or data.encoding=latin-1, and data.drop_bad=true leaves bad rows out. Exit code: 0,
or 2 with the reason in one line.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skip_exp.commands.line import (
    PROBABILITY_DIGITS,
    add_loading,
    add_reject,
    find_folder,
    json_line,
    one_line_errors,
    open_classifier,
    parser,
)
from skip_exp.config.compose import compose_data
from skip_exp.data.read import check_file
from skip_exp.skill.evaluate import read_labelled
from skip_exp.skill.record import read_about
from skip_exp.utils import files

CLASSES = 20  # listed; of more, those with the lowest F1
CONFUSIONS = 10  # listed


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    line = parser("evaluate", __doc__)
    line.add_argument("skill", metavar="SKILL", help="folder of a skill or export")
    about = "rows with texts and labels"
    line.add_argument("file", type=Path, metavar="FILE", help=about)
    line.add_argument("--label", metavar="COLUMN", help="default: the one that it was trained on")
    about = "write the misclassified rows, the most confident first"
    line.add_argument("--errors", type=Path, metavar="FILE.csv", help=about)
    add_reject(line)
    line.add_argument("--json", action="store_true", help="one line of JSON, without the errors")
    add_loading(line)
    about = "how the file is read, such as data.sep=;"
    line.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=about)
    options = line.parse_intermixed_args(arguments)
    # What is wrong with the file is said before torch is loaded.
    file = options.file.expanduser()
    check_file(file)
    if options.errors:  # the shell leaves --errors=~/FILE as it is
        options.errors = options.errors.expanduser()
    if options.errors and options.errors.resolve() == file.resolve():
        line.error(f"--errors {options.errors}: is the file with the rows; name another")
    folder = find_folder(options.skill)
    reading = compose_data(options.overrides)
    rows = read_labelled(read_about(folder), file, None, options.label, reading)
    classifier = open_classifier(folder, options.backbone, options.precision)
    found = classifier.score(rows, options.reject)
    errors = found.pop("errors")
    if options.errors:
        write_errors(options.errors, errors)
    if options.json:
        print(json_line(found))
        return 0
    show(found, options.reject)
    if options.errors:
        print(f"written: {options.errors} ({len(errors):,} mistakes)")
    return 0


def write_errors(path: Path, errors: Sequence[Mapping[str, Any]]) -> None:
    """The mistakes as CSV. Raises SkipError: it cannot be written."""
    import pandas as pd  # what evaluates has loaded it; a refused argument needs none

    table = pd.DataFrame(errors, columns=None if errors else ["true", "predicted", "probability"])
    table = table.round({"probability": PROBABILITY_DIGITS})
    files.save(path, table.to_csv(index=False).encode(), f"--errors {path}")


def show(found: dict[str, Any], reject: float) -> None:
    """The scores, then a table of the classes, and of what was taken for what."""
    # No label is taken for another where a text may have both.
    counts, classes = found.pop("confusion", {}), found.pop("classes")
    rows, coverage = found.pop("rows"), found.pop("coverage", 1.0)
    answered = found.pop("answered", {})
    print(f"{rows:,} rows, in percent: {describe(found)}")
    if reject:
        print(f"answered at --reject {reject:g}: {100 * coverage:.1f} %; {describe(answered)}")
    console = Console(width=None if Console().is_terminal else 160)
    console.print(class_table(classes))
    if counts:
        console.print(confusions(counts))


def describe(scores: Mapping[str, float]) -> str:
    """``accuracy 92.0, f1_macro 91.5``"""
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())


def class_table(classes: Mapping[str, Mapping[str, float]]) -> Table:
    """Precision, recall and F1 in percent, and the rows of each class."""
    title, listed = "Classes, in percent", list(classes.items())
    if len(listed) > CLASSES:
        title = f"The {CLASSES} of {len(listed)} classes with the lowest F1, in percent"
        listed = sorted(listed, key=lambda each: each[1]["f1"])[:CLASSES]
    table = Table("class", "precision", "recall", "F1", "rows", title=title)
    for name, scores in listed:
        shares = (f"{100 * scores[key]:.1f}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(name), *shares, str(scores["support"]))
    return table


def confusions(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """The most frequent pairs of a true label and a wrong answer."""
    pairs = [(n, true, answer) for true, row in counts.items() for answer, n in row.items()]
    wrong = sorted((p for p in pairs if p[0] and p[1] != p[2]), key=lambda p: -p[0])
    title = f"The {min(CONFUSIONS, len(wrong))} most frequent of {len(wrong)} kinds of mistakes"
    table = Table("true", "answer", "rows", title=title)
    for n, true, answer in wrong[:CONFUSIONS]:
        table.add_row(escape(true), escape(answer), str(n))
    return table
