"""What a skill or an export says of itself, checked field by field. Imports no torch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_type_hints

from skip_exp.errors import SkipError, first_line
from skip_exp.utils.files import parse_json
from skip_exp.utils.kinds import mismatch

VERSION = 1
ABOUT = "skill.json"
CONFIG, ONNX = "config.json", "model.onnx"  # of an export
LONGEST = 100_000  # tokens of a text


class _Backbone(TypedDict):
    name: str
    path: str
    family: str
    readout: str
    pooling: Literal["mean", "cls", "pair"]
    content_hash: str
    layers: NotRequired[int]  # of a backbone cut to its first layers


class _Prompt(TypedDict):
    kind: str
    length: int
    decoder: bool


@dataclass(frozen=True)
class SkillRecord:
    """What ``skill.json`` says beside version and checksum.

    Attributes:
        labels: class names in label order; ``words``: their label words.
        backbone: {name, path, family, readout, pooling, content_hash}, and ``layers`` where only
            the first ones are in use.
        prompt: {kind, length, decoder}.
        max_length: tokens that a text is truncated to.
        scores: main metric and what it was.
        train: what was trained; ``bias``: biases and norms are in the file, too; ``lora``: these
            and the factors of low-rank updates.
        factors: {rank, bytes}: of these factors; None where there are none.
    """

    task: str
    text: list[str]
    labels: list[str]
    words: list[str]
    backbone: dict[str, Any]
    prompt: dict[str, Any]
    max_length: int
    scores: dict[str, str | float | None]
    train: str = "prompt_readout"
    factors: dict[str, int] | None = None

    def to_share(self) -> "SkillRecord":
        """The same, without the folder of this machine that its rows came from."""
        if not str(self.scores.get("data")).startswith("local:"):
            return self
        return replace(self, scores=self.scores | {"data": "local"})

    def stored(self) -> dict[str, Any]:
        """The fields as a file has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class _Factors(TypedDict):
    rank: int
    bytes: int


class _Stored(TypedDict):
    """The types of the fields, in full."""

    task: str
    text: list[str]
    labels: list[str]
    words: list[str]
    backbone: _Backbone
    prompt: _Prompt
    max_length: int
    scores: dict[str, Any]
    train: Literal["prompt", "prompt_readout", "bias", "lora", "full"]
    factors: NotRequired[_Factors]


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Whatever a library makes of a file that it did not write is one line. Raises SkipError."""
    try:
        yield
    except (SkipError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of tokenizers is no Exception
        raise SkipError(f"{what}: cannot be loaded: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The description in ``path``, of the version that is known. Raises SkipError."""
    try:
        described = parse_json(read_bytes(path))
    except ValueError as error:
        raise SkipError(f"{path}: damaged, not JSON: {error}") from error
    if not isinstance(described, dict) or "version" not in described:
        raise SkipError(f"{path}: not a skill: it has no version")
    version = described.pop("version")
    if type(version) is not int or version != VERSION:
        raise SkipError(f"{path}: version {version!r} is unknown; this skip_exp reads {VERSION}")
    return described


def read_bytes(path: Path) -> bytes:
    """The content of ``path``. Raises SkipError."""
    try:
        return path.read_bytes()
    except OSError as error:
        hint = path.parent / "skill" / path.name
        where = f"; is it {hint.parent}?" if hint.is_file() else ""
        raise SkipError(f"{path}: cannot be read: {error.strerror}{where}") from error


def parse_record(path: Path, described: Mapping[str, Any], *beside: str) -> SkillRecord:
    """``described`` as an object.

    Args:
        path: for the message.
        beside: further keys that may be there.

    Raises:
        SkipError: a field is missing, unknown, of a wrong type or out of range.
    """
    parts: list[tuple[str, Mapping[str, Any], Any]] = [("", described, _Stored)]
    for name, kind in (("backbone", _Backbone), ("prompt", _Prompt), ("factors", _Factors)):
        if isinstance(described.get(name), Mapping):
            parts.append((f"{name}.", described[name], kind))
    for prefix, part, kind in parts:
        known = get_type_hints(kind)
        for key in [*(key for key in known if key in kind.__required_keys__), *part]:
            if key not in part:
                raise SkipError(f"{path}: field '{prefix}{key}' is missing")
            if key not in known and (prefix or key not in beside):
                raise SkipError(f"{path}: field {prefix + key!r} is unknown")
    problem = mismatch(described, _Stored, "") or _out_of_range(described)
    if problem:
        raise SkipError(f"{path}: field {problem}")
    named = [field.name for field in fields(SkillRecord)]
    return SkillRecord(**{name: described[name] for name in named if name in described})


def _out_of_range(described: Mapping[str, Any]) -> str | None:
    """Which field, all of them being of the right type, has a value that no skill has."""
    text, labels, words = (described[name] for name in ("text", "labels", "words"))
    length, prompt = described["max_length"], described["prompt"]
    if not (len(text) in (1, 2) and all(text)):
        return f"text must name one column or two, not {text}"
    if not 2 <= len(set(labels)) == len(labels):
        return f"labels must be two or more different names, not {labels}"
    if words and len(words) != len(labels):
        return f"words must be none, or one per label of {labels}"
    if not 1 <= length <= LONGEST:
        return f"max_length must be from 1 to {LONGEST}, not {length}"
    if (layers := described["backbone"].get("layers", 1)) < 1:
        return f"backbone.layers must be 1 or more, not {layers}"
    if described["backbone"]["pooling"] == "pair" and len(text) != 2:
        return "backbone.pooling must be mean or cls where there is one text, not pair"
    if prompt["length"] < 0:
        return f"prompt.length must be 0 or more, not {prompt['length']}"
    if "factors" in described and described["train"] != "lora":
        return f"factors must not be there with train={described['train']}"
    return None
