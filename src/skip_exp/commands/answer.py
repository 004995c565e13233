"""The commands that use a skill or an export: answer texts, and score it on rows with labels."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.config.compose import compose_data
from skip_exp.errors import ExampleError, SkipError
from skip_exp.skill.evaluate import read_labelled
from skip_exp.skill.examples import is_table, read_lines, read_texts
from skip_exp.skill.record import ONNX, read_about
from skip_exp.utils import console, files
from skip_exp.utils.console import open_screen

if TYPE_CHECKING:
    from skip_exp.skill.classifier import Classifier

PROBABILITY_DIGITS = 4  # of a printed probability
CONFUSIONS = 10  # listed


@one_line_errors(2)
def predict(arguments: Sequence[str] | None = None) -> int:
    """Answer texts with a skill or an export; one JSON line per answer.

    Examples:

        skip-exp predict outputs/.../skill "a dull film" "a charming one"
        skip-exp predict outputs/.../skill "premise" "hypothesis"
        skip-exp predict outputs/.../skill --file texts.txt > answers.jsonl
        skip-exp predict outputs/.../skill --file rows.csv --with id > answers.jsonl
        skip-exp predict outputs/.../skill "a dull film" --reject 0.7    # null where unsure

    A file that ends in .csv, .tsv, .jsonl or .json, each also with .gz, or in .parquet has the
    task's columns. Each answer then carries the number of its row, from 1, and the columns of
    --with. Bad rows are named before any answer. KEY=VALUE says how a file is read: data.sep=/ or
    data.encoding=latin-1, and data.drop_bad=true leaves bad rows out.

    Any other file, and standard input, has JSON lines with the task's columns, or one text a line,
    with a TAB between the two texts of a pair. They are read and answered 8,192 at a time: what
    comes before those of a refused line is answered. Exit code: 0, or 2 with the reason in one
    line.
    """
    line = parser("predict", predict.__doc__)
    add_loading(line)
    line.add_argument(
        "words",
        nargs="*",
        metavar="TEXT",
        help="a text, or two for a task on pairs; with --file KEY=VALUE, such as data.sep=/",
    )
    line.add_argument("--file", type=Path, help="a table, or examples, one a line")
    line.add_argument(
        "--with",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column of a table to copy into the answers; may be repeated",
    )
    add_reject(line)
    options = line.parse_intermixed_args(arguments)
    # Bad arguments and rows are refused before torch is loaded.
    examples, beside, where = find_examples(options)
    classifier = open_classifier(options.skill, options.backbone, options.precision)
    try:
        answers = classifier.stream(examples, reject=options.reject)
        # Counted where standard error is a terminal (None: tqdm asks), and they go elsewhere.
        counted = tqdm(answers, unit=" answers", leave=False, disable=sys.stdout.isatty() or None)
        for row, answer in zip(beside, counted, strict=False):
            for label, value in answer["probabilities"].items():
                answer["probabilities"][label] = round(value, PROBABILITY_DIGITS)
            print(json_line(row | answer))
        sys.stdout.flush()
    except ExampleError as error:
        raise SkipError(
            f"line {error.number} of {where}: {error.reason}" if where else str(error)
        ) from error
    except BrokenPipeError:  # `| head` has seen enough; keeps the interpreter silent, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_examples(options: Namespace) -> tuple[Iterable[Any], Iterable[dict[str, Any]], str]:
    """The examples, what is printed beside the answer of each, and whose lines they are, if any.

    Raises SkipError.
    """
    copied = vars(options)["with"]
    words = options.words
    text = read_about(options.skill).text
    if is_table(options.file):
        examples, beside = read_texts(options.file, text, compose_data(words), copied)
        return examples, beside, ""
    if copied:
        raise SkipError("--with: only with --file of a table, such as rows.csv")
    if words and not options.file:
        if len(words) % len(text):
            raise SkipError(f"{len(words)} texts: must be pairs ({', '.join(text)})")
        pairs = [words[i : i + len(text)] for i in range(0, len(words), len(text))]
        return pairs, repeat({}), ""
    encoding = compose_data(words).encoding if options.file else "utf-8"
    lines, where = read_lines(options.file, encoding)
    return lines, repeat({}), where


@one_line_errors(2)
def evaluate(arguments: Sequence[str] | None = None) -> int:
    """Score a skill or export on rows with labels: metrics, classes, and confusions.

    Examples:

        skip-exp evaluate outputs/.../skill test.csv --label verdict
        skip-exp evaluate outputs/.../skill test.csv --errors mistakes.csv    # what is wrong
        skip-exp evaluate outputs/.../skill test.csv --reject 0.7             # what it is sure of

    FILE is CSV, TSV, JSON, JSON lines or Parquet and has the task's columns. KEY=VALUE says how it
    is read: data.sep=/ or data.encoding=latin-1, and data.drop_bad=true leaves bad rows out. Exit
    code: 0, or 2 with the reason in one line.
    """
    line = parser("evaluate", evaluate.__doc__)
    add_loading(line)
    line.add_argument("file", type=user_path, metavar="FILE", help="rows with texts and labels")
    line.add_argument("--label", metavar="COLUMN", help="default: the one that it was trained on")
    line.add_argument(
        "--errors",
        type=user_path,
        metavar="FILE.csv",
        help="write the misclassified rows, the most confident first",
    )
    add_reject(line)
    line.add_argument("--json", action="store_true", help="one line of JSON, without the errors")
    line.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="how the file is read, such as data.sep=/"
    )
    options = line.parse_intermixed_args(arguments)
    if options.errors and options.errors.resolve() == options.file.resolve():
        line.error(f"--errors {options.errors}: is the file with the rows; name another")
    reading = compose_data(options.overrides)
    # What is wrong with the file is said before torch is loaded.
    rows = read_labelled(read_about(options.skill), options.file, options.label, reading)
    classifier = open_classifier(options.skill, options.backbone, options.precision)
    scores = classifier.score(rows, options.reject)
    errors = scores.pop("errors")
    if options.errors:
        write_errors(options.errors, errors)
    if options.json:
        print(json_line(scores))
        return 0
    show(scores, options.reject)
    if options.errors:
        print(f"written: {options.errors} ({len(errors):,} mistakes)")
    return 0


def write_errors(path: Path, errors: Sequence[Mapping[str, Any]]) -> None:
    """The mistakes as CSV. Raises SkipError: it cannot be written."""
    import pandas as pd  # what evaluates has loaded it; a refused argument needs none

    table = pd.DataFrame(errors, columns=None if errors else ["true", "predicted", "probability"])
    table = table.round({"probability": PROBABILITY_DIGITS})
    files.save(path, table.to_csv(index=False).encode(), f"--errors {path}")


def show(scores: dict[str, Any], reject: float) -> None:
    """The scores, then a table of the classes, and of what was taken for what."""
    # No label is taken for another where a text may have both.
    counts = scores.pop("confusion", {})
    classes = scores.pop("classes")
    rows = scores.pop("rows")
    coverage = scores.pop("coverage", 1.0)
    answered = scores.pop("answered", {})
    print(f"{rows:,} rows, in percent: {describe(scores)}")
    if reject:
        print(f"answered at --reject {reject:g}: {100 * coverage:.1f} %; {describe(answered)}")
    screen = open_screen()
    screen.print(class_table(classes))
    if counts:
        screen.print(confusions(counts))


def describe(scores: Mapping[str, float]) -> str:
    """``accuracy 92.0, f1_macro 91.5``"""
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())


def class_table(classes: Mapping[str, Mapping[str, float]]) -> Table:
    """Precision, recall and F1 in percent, and the rows of each class, the lowest F1 last."""
    table = Table("class", "precision", "recall", "F1", "rows", title="Classes, in percent")
    for name, scores in sorted(classes.items(), key=lambda entry: -entry[1]["f1"]):
        table.add_row(
            escape(name),
            f"{100 * scores['precision']:.1f}",
            f"{100 * scores['recall']:.1f}",
            f"{100 * scores['f1']:.1f}",
            str(scores["support"]),
        )
    return table


def confusions(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """The most frequent pairs of a true label and a wrong answer."""
    mistakes = Counter[tuple[str, str]]()
    for true, row in counts.items():
        for answer, count in row.items():
            if count and true != answer:
                mistakes[true, answer] = count
    shown = min(CONFUSIONS, len(mistakes))
    title = f"The {shown} most frequent of {len(mistakes)} kinds of mistakes"
    table = Table("true", "answer", "rows", title=title)
    for (true, answer), count in mistakes.most_common(CONFUSIONS):
        table.add_row(escape(true), escape(answer), str(count))
    return table


def json_line(fields: dict[str, Any]) -> str:
    """One line of JSON; dates and the like become texts, and what is not finite null."""
    plain = to_jsonable_python(fields, inf_nan_mode="null", bytes_mode="base64", fallback=str)
    line = json.dumps(plain, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without UTF-8; half a character, in a copied column
        return json.dumps(plain)
    return line


def add_reject(line: ArgumentParser) -> None:
    """The argument ``--reject``."""
    line.add_argument(
        "--reject",
        type=float,
        default=0.0,
        metavar="P",
        help="no label where the largest probability is below P, such as 0.7",
    )


def add_loading(line: ArgumentParser) -> None:
    """The arguments of :func:`open_classifier`."""
    line.add_argument("skill", type=user_path, metavar="SKILL", help="folder of a skill or export")
    line.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    line.add_argument(
        "--precision",
        default="32-true",
        help="32-true (default) | bf16 | auto: bf16 where the processor has fast bf16",
    )


def user_path(text: str) -> Path:
    """A path for ``type=``: the shell leaves ``--errors=~/FILE`` as it is."""
    return Path(text).expanduser()


def open_classifier(folder: Path, backbone: str | None, precision: str) -> "Classifier":
    """The skill or ONNX export in ``folder``.

    Args:
        backbone, precision: see :meth:`Skill.load`. An export has a precision of its own.

    Raises:
        SkipError: it cannot be loaded.
    """
    if os.path.isfile(folder / ONNX):  # not Path.is_file, which raises where it may not look
        if precision != "32-true":
            raise SkipError(f"--precision {precision}: {folder} is an ONNX export and has its own")
        from skip_exp.skill.export.onnx.runtime import OnnxSkill  # packages that are optional

        return OnnxSkill.load(folder)
    console.import_slow("skip_exp.skill.skill")  # torch takes seconds: not for an ONNX export
    from skip_exp.skill.skill import Skill

    return Skill.load(folder, backbone, precision)
