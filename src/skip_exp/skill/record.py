"""The record of a skill: what ``skill.json`` and an ONNX export's ``config.json`` say.

Imports no torch: an ONNX export needs none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shown
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from skip_exp.errors import SkipError, first_line
from skip_exp.utils.files import parse_json

VERSION = 1
RECORD = "skill.json"
CONFIG, ONNX = "config.json", "model.onnx"  # files of an export
LONGEST = 100_000  # tokens per text


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class BackboneRecord(_Part):
    """The backbone that a skill needs, and how its hidden states are read."""

    name: str
    path: str
    family: str
    readout: str
    pooling: Literal["mean", "cls"]
    content_hash: str
    layers: int | None = Field(None, ge=1)  # where only the first layers are in use


class PromptRecord(_Part):
    kind: str
    length: int = Field(ge=0)
    decoder: bool


class ScoreRecord(_Part):
    """The main metric of the final model, and the data it was measured on."""

    metric: str | None = None
    validation: float | None = None
    data: str | None = None


class FactorsRecord(_Part):
    """Low-rank updates that are stored as factors."""

    rank: int = Field(ge=1)
    bytes: int


class SharedRecord(_Part):
    """Weights that stand in the hf format's file alone, where every weight was trained.

    Attributes:
        sha256: of that file.
        names: {a tensor of the skill: its name in that file}.
    """

    sha256: str
    names: dict[str, str]


class SkillRecord(_Part):
    """What a skill file says beside its version and checksum.

    Attributes:
        text: the one or two columns, or templates of columns, that the task reads.
        labels: class names in label order.
        words: their label words; none for a ``head`` readout.
        max_length: tokens that a text is truncated to.
        train: what was trained. ``bias`` adds biases and norms to the file, ``lora`` also the
            factors of low-rank updates, ``full`` every weight.
        shared: of an hf export; None once the tensors are read.
    """

    task: str
    text: list[str] = Field(min_length=1, max_length=2)
    labels: list[str] = Field(min_length=2)
    words: list[str]
    backbone: BackboneRecord
    prompt: PromptRecord
    max_length: int = Field(ge=1, le=LONGEST)
    scores: ScoreRecord
    train: Literal["prompt", "prompt_readout", "bias", "lora", "full"]
    factors: FactorsRecord | None = None
    shared: SharedRecord | None = None

    @field_validator("text", "labels")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if not all(value) or len(set(value)) < len(value):
            raise ValueError("must be different names, none of them empty")
        return value

    @field_validator("words")
    @classmethod
    def _one_per_label(cls, words: list[str], info: ValidationInfo) -> list[str]:
        if words and len(words) != len(info.data.get("labels", words)):
            raise ValueError(f"must be none, or one per label of {info.data['labels']}")
        return words

    @field_validator("factors")
    @classmethod
    def _of_lora(cls, factors: FactorsRecord | None, info: ValidationInfo) -> FactorsRecord | None:
        if factors is not None and info.data.get("train", "lora") != "lora":
            raise ValueError(f"must not be there with train={info.data['train']}")
        return factors

    def changed(self, **fields: Any) -> Self:
        """A copy with other values of ``fields``."""
        return self.model_copy(update=fields)

    def to_share(self) -> Self:
        """A copy without the folder of this machine that its rows came from."""
        if not str(self.scores.data).startswith("local:"):
            return self
        return self.changed(scores=self.scores.model_copy(update={"data": "local"}))

    def stored(self) -> dict[str, Any]:
        """The fields as a file has them."""
        return self.model_dump(exclude_none=True)


R = TypeVar("R", bound=SkillRecord)


def parse_record(path: Path, described: Any, kind: type[R]) -> R:
    """The fields of ``described``, which was read from ``path``, checked.

    Raises:
        SkipError: a field is missing, unknown, of a wrong type or out of range.
    """
    try:
        return kind.model_validate(described)
    except ValidationError as error:
        raise SkipError(f"{path}: field {_problem(error)}") from error


def _problem(error: ValidationError) -> str:
    """The first problem: field, value and what is allowed."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    told = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(first["type"])
    if told:
        return f"{shown(name)} {told}"
    return f"{name}={shown(first['input'])}: {first['msg'].removeprefix('Value error, ')}"


@contextmanager
def loading(what: Path) -> Iterator[None]:
    """Turn any error of a library that reads a damaged file into one line. Raises SkipError."""
    try:
        yield
    except (SkipError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of tokenizers is no Exception
        raise SkipError(f"{what}: cannot be loaded: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The fields in ``path``, unchecked, of the version that is known. Raises SkipError."""
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
