"""What the commands share: their parser and its errors, a skill's arguments, JSON lines."""

import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from skip_exp.errors import SkipError
from skip_exp.skill.record import ONNX
from skip_exp.utils import console

if TYPE_CHECKING:
    from skip_exp.skill.classifier import Classifier

PROBABILITY_DIGITS = 4  # of a printed probability

Main = Callable[[Sequence[str] | None], int]


def parser(word: str, about: str | None) -> ArgumentParser:
    """A parser of ``skip-exp WORD ...``; ``about`` is shown by ``--help`` as it stands."""
    kind: Any = RawDescriptionHelpFormatter
    return ArgumentParser(prog=f"skip-exp {word}", description=about, formatter_class=kind)


def one_line_errors(code: int) -> Callable[[Main], Main]:
    """Make a command print a `SkipError` as one line and return ``code``; 1 if a job failed."""

    def decorate(main: Main) -> Main:
        @wraps(main)
        def wrapped(arguments: Sequence[str] | None = None) -> int:
            try:
                return main(arguments)
            except SkipError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1 if error.in_job else code

        return wrapped

    return decorate


def json_line(fields: dict[str, Any]) -> str:
    """One line of JSON; dates and the like become texts, and what is not finite null."""
    plain = to_jsonable_python(fields, inf_nan_mode="null", bytes_mode="base64", fallback=str)
    line = json.dumps(plain, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without UTF-8; half a character, in a copied column
        return json.dumps(plain)
    return line


def probability(text: str) -> float:
    """A number from 0 to 1, for ``type=``. Raises ArgumentTypeError, ValueError."""
    value = float(text)
    if not 0 <= value <= 1:  # nor is NaN
        raise ArgumentTypeError(f"{text}: must be a probability, from 0 to 1")
    return value


def add_reject(line: ArgumentParser) -> None:
    """The argument ``--reject``."""
    about = "no label where the largest probability is below P, such as 0.7"
    line.add_argument("--reject", type=probability, default=0.0, metavar="P", help=about)


def add_loading(line: ArgumentParser) -> None:
    """The arguments of :func:`open_classifier` beside the folder."""
    line.add_argument("--backbone", help="folder or hub id of the backbone, where it has moved")
    about = "32-true (default) | bf16 | auto: bf16 where the processor has fast bf16"
    line.add_argument("--precision", default="32-true", help=about)


def find_folder(folder: str) -> Path:
    place = Path(folder).expanduser()
    if not os.path.isdir(place):
        raise SkipError(f"{folder}: no such folder, or no permission")
    return place


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
    from skip_exp.skill.skill import Skill  # the same

    return Skill.load(folder, backbone, precision)
