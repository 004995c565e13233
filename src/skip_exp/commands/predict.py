"""Answer texts with a skill or an export; one JSON line per answer.

Examples:

    skip-exp predict outputs/.../skill "a dull film" "a charming one"
    skip-exp predict outputs/.../skill "premise" "hypothesis"
    skip-exp predict outputs/.../skill --file texts.txt > answers.jsonl
    skip-exp predict outputs/.../skill --file rows.csv --with id > answers.jsonl
    skip-exp predict outputs/.../skill "a dull film" --reject 0.7    # null where it is less sure

A file that ends in .csv, .tsv, .jsonl or .json, each also with .gz, or in .parquet has the task's
columns. Each answer then carries the number of its row, from 1, and the columns of --with. Bad rows
are named before any answer. KEY=VALUE says how a file is read: data.sep=; data.encoding=latin-1,
and data.drop_bad=true leaves bad rows out.

Any other file, and standard input, has JSON lines with the task's columns, or one text a line, with
a TAB between the two texts of a pair. They are read and answered in batches of 8,192. Lines before
a refused one have their answers. Exit code: 0, or 2 with the reason in one line.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from skip_exp.errors import ExampleError, SkipError
from skip_exp.skill.examples import is_table, read_lines, read_texts
from skip_exp.skill.record import read_about

if TYPE_CHECKING:
    from skip_exp.skill.classifier import Prediction


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    line = parser("predict", __doc__)
    line.add_argument("skill", metavar="SKILL", help="folder of a skill or export")
    about = "a text, or two for a task on pairs; with --file KEY=VALUE, such as data.sep=;"
    line.add_argument("words", nargs="*", metavar="TEXT", help=about)
    line.add_argument("--file", type=Path, help="a table, or examples, one a line")
    about = "column of a table to copy into the answers; may be repeated"
    line.add_argument("--with", action="append", default=[], metavar="COLUMN", help=about)
    add_reject(line)
    add_loading(line)
    options = line.parse_intermixed_args(arguments)
    examples, beside, where = find_examples(options)
    classifier = open_classifier(find_folder(options.skill), options.backbone, options.precision)
    try:
        answers = with_progress(classifier.stream(examples, reject=options.reject))
        for row, answer in zip(beside, answers, strict=False):
            known = answer["probabilities"].items()
            answer["probabilities"] = {label: round(p, PROBABILITY_DIGITS) for label, p in known}
            print(json_line(row | answer))
        sys.stdout.flush()
    except ExampleError as error:
        what = f"line {error.number} of {where}: {error.why}" if where else str(error)
        raise SkipError(what) from error
    except BrokenPipeError:  # `| head` has seen enough; keeps the interpreter silent, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_examples(options: Namespace) -> tuple[Iterable[Any], Iterable[dict[str, Any]], str]:
    """The examples, what is printed beside the answer of each, and whose lines they are, if any.

    Raises SkipError.
    """
    kept, words, file = vars(options)["with"], options.words, options.file
    if is_table(file):
        check_file(file)
        text = read_about(find_folder(options.skill)).text
        return *read_texts(file, text, compose_data(words), kept), ""
    if kept:
        raise SkipError("--with: only with --file of a table, such as rows.csv")
    if words and not file:
        text = read_about(find_folder(options.skill)).text
        if len(words) % len(text):
            raise SkipError(f"{len(words)} texts: must be pairs ({', '.join(text)})")
        pairs = [words[i : i + len(text)] for i in range(0, len(words), len(text))]
        return pairs, repeat({}), ""
    examples, where = read_lines(file, compose_data(words).encoding if file else "utf-8")
    return examples, repeat({}), where


def with_progress(answers: "Iterable[Prediction]") -> "Iterable[Prediction]":
    """The answers, counted on standard error where that is a terminal and they go elsewhere."""
    from tqdm import tqdm  # not before what is refused at once

    # None: tqdm itself asks whether standard error is a terminal.
    return tqdm(answers, unit=" answers", leave=False, disable=sys.stdout.isatty() or None)
