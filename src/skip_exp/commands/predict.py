"""Answer texts with a skill or an export; one JSON line per answer.

Examples:

    skip-exp predict outputs/.../skill "a dull film"
    skip-exp predict outputs/.../skill "premise" "hypothesis"
    skip-exp predict outputs/.../skill --file texts.txt > answers.jsonl

Without a text, examples come from --file or standard input: JSON lines with the task's columns, or
one text a line, with a TAB between the two texts of a pair. Examples are read and answered in
batches of 8,192. Lines before a refused one have their answers. Exit code: 0, or 2 with the reason
in one line.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from skip_exp.commands.line import one_line_errors, parser
from skip_exp.errors import ExampleError, SkipError
from skip_exp.skill.record import ONNX
from skip_exp.utils import imports

if TYPE_CHECKING:
    from skip_exp.skill.classifier import Classifier, Prediction


@one_line_errors(2)
def main(arguments: Sequence[str] | None = None) -> int:
    line = parser("predict", __doc__)
    line.add_argument("skill", metavar="SKILL", help="folder of a skill or of an export")
    line.add_argument("texts", nargs="*", metavar="TEXT", help="one example: a text or a pair")
    line.add_argument("--file", type=Path, help="examples, one a line")
    line.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    about = "32-true (default) | bf16 | auto: bf16 where the processor has fast bf16"
    line.add_argument("--precision", default="32-true", help=about)
    options = line.parse_args(arguments)
    examples, where = read_examples(options.texts, options.file)
    classifier = load(options.skill, options.backbone, options.precision)
    try:
        for answer in with_progress(classifier.stream(examples)):
            print(json.dumps(answer, ensure_ascii=False))
        sys.stdout.flush()
    except ExampleError as error:
        what = f"line {error.number} of {where}: {error.why}" if where else str(error)
        raise SkipError(what) from error
    except BrokenPipeError:  # `| head` has seen enough; keeps the interpreter silent, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def load(folder: str, backbone: str | None, precision: str) -> "Classifier":
    """A skill or an export of either format. Raises SkipError."""
    if not (Path(folder) / ONNX).is_file():
        imports.load("skip_exp.skill.load")  # takes seconds: not for a refusal
        from skip_exp import Skill

        return Skill.load(folder, backbone, precision)
    if precision != "32-true":
        raise SkipError(f"--precision {precision}: {folder} is an ONNX export and has its own")
    from skip_exp import OnnxSkill  # without the other's torch

    return OnnxSkill.load(folder)


def with_progress(answers: "Iterable[Prediction]") -> "Iterable[Prediction]":
    """The answers, counted on standard error where that is a terminal and they go elsewhere."""
    from tqdm import tqdm  # not before what is refused at once

    # None: tqdm itself asks whether standard error is a terminal.
    return tqdm(answers, unit=" answers", leave=False, disable=sys.stdout.isatty() or None)


def read_examples(texts: Sequence[str], file: Path | None) -> tuple[Iterable[Any], str]:
    """Examples as ``Skill.predict`` takes them, and where their lines come from.

    That is a file or standard input, and empty for arguments.
    """
    if texts and file:
        raise SkipError(f"--file {file}: a text is given, too; give one of them")
    if texts:
        return [list(texts)], ""
    if file:
        try:
            return parse_lines(_close_after(file.open("rb")), str(file)), str(file)
        except OSError as error:
            raise SkipError(f"{file}: cannot be read: {error.strerror}") from error
    if sys.stdin.isatty():
        raise SkipError("no text: give it as an argument, with --file, or on standard input")
    return parse_lines(sys.stdin.buffer, "standard input"), "standard input"


def _close_after(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        yield from file


def parse_lines(lines: Iterable[bytes], where: str) -> Iterator[Any]:
    """One example a line; JSON objects where the first line is one, else texts separated by TABs.

    Raises:
        SkipError: a line that is no UTF-8 text, or broken JSON, or empty with others after it
            (answers would no longer match their lines).
    """
    as_json = False
    empty = 0  # the first line of those without a text that came last
    for number, line in enumerate(lines, 1):
        text = _decoded(line, number, where)
        if not text.strip():
            empty = empty or number
            continue
        if empty:
            raise SkipError(f"line {empty} of {where} is empty")
        example = _json(text) if number == 1 or as_json else None
        as_json = as_json or isinstance(example, dict)
        if as_json and not isinstance(example, dict):
            raise SkipError(f"line {number} of {where} is not a JSON object, as line 1 is")
        yield example if as_json else text.split("\t")


def _decoded(line: bytes, number: int, where: str) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise SkipError(f"line {number} of {where} is not UTF-8 text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
