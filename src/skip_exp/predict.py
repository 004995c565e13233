"""``python -m skip_exp.predict SKILL "text" ["second text"]``: answers as JSON lines.

Without a text, examples come from ``--file`` or standard input: JSON lines with the task's columns,
or one text a line, the two texts of a pair apart by a TAB. Exit code: 0, or 2 with one line of why.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip_exp.errors import SkipError
from skip_exp.skill.about import ONNX

if TYPE_CHECKING:
    from skip_exp.skill.classifier import Classifier

PLAIN = argparse.RawDescriptionHelpFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m skip_exp.predict", description=__doc__, formatter_class=PLAIN
    )
    parser.add_argument("skill", metavar="SKILL", help="folder of a skill or of an export")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="one example: a text or a pair")
    parser.add_argument("--file", type=Path, help="examples, one a line")
    parser.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    parser.add_argument(
        "--precision",
        default="32-true",
        help="32-true (default) | bf16 | auto: bf16 where the processor multiplies it",
    )
    options = parser.parse_args(arguments)
    try:
        examples = read_examples(options.texts, options.file)
        for answer in load(options.skill, options.backbone, options.precision).predict(examples):
            print(json.dumps(answer, ensure_ascii=False))
        sys.stdout.flush()
    except SkipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has seen enough; keep the interpreter from telling, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def load(folder: str, backbone: str | None, precision: str) -> "Classifier":
    """A skill or an export of either format. Raises SkipError."""
    if not (Path(folder) / ONNX).is_file():
        from skip_exp import Skill  # seconds of import, after whatever is refused at once

        return Skill.load(folder, backbone, precision)
    if precision != "32-true":
        raise SkipError(f"--precision {precision}: {folder} is an ONNX export and has its own")
    from skip_exp import OnnxSkill  # without the other's torch

    return OnnxSkill.load(folder)


def read_examples(texts: Sequence[str], file: Path | None) -> list[Any]:
    """Examples as ``Skill.predict`` takes them, from arguments, a file or standard input."""
    if texts and file:
        raise SkipError(f"--file {file}: a text is given, too; give one of them")
    if texts:
        return [list(texts)]
    try:
        if file:
            return parse_lines(file.read_text(encoding="utf-8-sig"), str(file))
        if sys.stdin.isatty():
            raise SkipError("no text: give it as an argument, with --file, or on standard input")
        return parse_lines(sys.stdin.read(), "standard input")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SkipError(f"{file or 'standard input'}: cannot be read: {why}") from error


def parse_lines(content: str, where: str) -> list[Any]:
    """One example a line; JSON objects where the first line is one, else texts apart by TABs.

    Raises:
        SkipError: an empty line (answers would no longer match their lines) or broken JSON.
    """
    lines = content.rstrip("\r\n").replace("\r\n", "\n").split("\n") if content.strip() else []
    as_json = bool(lines) and isinstance(_json(lines[0]), dict)
    examples: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise SkipError(f"line {number} of {where} is empty")
        example = _json(line) if as_json else line.split("\t")
        if as_json and not isinstance(example, dict):
            raise SkipError(f"line {number} of {where} is not a JSON object, as line 1 is")
        examples.append(example)
    return examples


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


if __name__ == "__main__":
    sys.exit(main())
