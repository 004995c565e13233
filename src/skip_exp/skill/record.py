"""The record of a skill: the fields of ``skill.json`` and of an ONNX export's ``config.json``.

Imports no torch, because an ONNX export needs none.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from skip_exp.errors import SkipError, first_line
from skip_exp.outcomes.registry import OUTCOMES, Outcome

VERSION = 1
RECORD = "skill.json"
TENSORS = "skill.safetensors"
CONFIG = "config.json"  # of an export
ONNX = "model.onnx"
FORMATS = ("hf", "onnx")  # of an export
HUB_PATTERN = re.compile(r"[\w.-]+(/[\w.-]+)?")
CODE = "modeling_skip.py"  # of an hf export; transformers copies it there
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def stored(self) -> dict[str, Any]:
        """The fields for a file."""
        return self.model_dump(exclude_none=True)


class BackboneRecord(_Part):
    """The backbone that a skill needs, and how the readout uses it."""

    name: str
    path: str
    family: str
    readout: str
    pooling: Literal["mean", "cls"]
    content_hash: str
    layers: Count | None = None  # None: all; else only the first ones


class PromptRecord(_Part):
    kind: Literal["input", "prefix", "none"]
    length: Annotated[int, Field(ge=0)]


class ScoreRecord(_Part):
    """The main metric of the final model, and the source of the data."""

    metric: str | None = None
    validation: float | None = None
    data: str | None = None


class SkillRecord(_Part):
    """All fields of a skill except version and checksum.

    Attributes:
        text: one or two columns of the task, or templates of columns.
        label: column of the labels that it was trained on; empty: a column of 0 and 1 per label.
        labels: class names in label order.
        words: their label words; none for a ``head`` readout.
        max_length: texts are truncated to this many tokens.
        train: the trained parameters. ``bias`` adds biases and norms to the file, ``gates`` these
            and gates, ``lora`` biases, norms and the factors of low-rank updates, ``layers`` every
            weight but embeddings, ``full`` all.
        rank: of the low-rank updates; None: there are none.
        start: the skill that tuning started from, first in a chain; None: there is none.
        temperature: divides the logits, so that probabilities are calibrated.
        threshold: the probability above which a label is given, where a text has any number of
            them; None: it has one, the likeliest.
        kind: of its labels: ``one_label`` or ``many_labels``.
    """

    task: str
    text: Annotated[list[str], Field(min_length=1, max_length=2)]
    label: str
    labels: Annotated[list[str], Field(min_length=2)]
    words: list[str]
    backbone: BackboneRecord
    prompt: PromptRecord
    max_length: Count
    scores: ScoreRecord
    train: Literal["none", "prompt", "prompt_readout", "bias", "gates", "lora", "layers", "full"]
    rank: Count | None = None
    start: str | None = None
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    kind: Annotated[str, Field(pattern=rf"^({'|'.join(OUTCOMES)})$")] = "one_label"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: one occurs twice")
        if self.words and len(self.words) != len(self.labels):
            raise ValueError("words: must be none, or one for each label")
        if self.threshold is None and not self.outcome.is_exclusive:
            raise ValueError(f"threshold: {self.kind} needs one")
        return self

    @property
    def outcome(self) -> Outcome:
        """The kind of its labels."""
        return OUTCOMES[self.kind]

    def changed(self, **fields: Any) -> Self:
        """A copy with other values of ``fields``."""
        return self.model_copy(update=fields)

    def to_share(self) -> Self:
        """A copy without the local folders of its data and its backbone."""
        scores = self.scores
        backbone = self.backbone
        if str(scores.data).startswith("local:"):
            scores = scores.model_copy(update={"data": "local"})
        if is_local(backbone.path):
            backbone = backbone.model_copy(update={"path": f"./{backbone.name}"})
        return self.changed(scores=scores, backbone=backbone)


def is_local(path: str) -> bool:
    """Whether a backbone's ``path`` is a folder: neither embedded nor a hub id."""
    if path.startswith("embedded:"):
        return False
    named_as_folder = path.startswith((".", "/", "~"))
    return named_as_folder or HUB_PATTERN.fullmatch(path) is None or Path(path).exists()


R = TypeVar("R", bound=_Part)


def parse_record(path: Path, described: Any, kind: type[R]) -> R:
    """Check the fields ``described`` that were read from ``path``.

    Raises:
        SkipError: a field is missing, unknown or has a wrong type.
    """
    try:
        return kind.model_validate(described)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "values"
        raise SkipError(f"{path}: field {name}: {first['msg']}") from error


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turn any error of a library that reads a file into one line. Raises SkipError."""
    try:
        yield
    except SkipError:
        raise
    except Exception as error:
        raise SkipError(f"{path}: cannot be used: {first_line(error)}") from error


def checksum(tensors: bytes, described: Mapping[str, Any]) -> str:
    """SHA-256 over the tensors' file and all fields except version and checksum."""
    digest = hashlib.sha256(tensors)
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The unchecked fields in ``path``, without the version. Raises SkipError."""
    try:
        described: Any = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise SkipError(f"{path}: damaged, not JSON: {error}") from error
    if not isinstance(described, dict) or "version" not in described:
        raise SkipError(f"{path}: not a skill: it has no version")
    version = described.pop("version")
    if version != VERSION:
        raise SkipError(f"{path}: version {version!r} is unknown; this skip_exp reads {VERSION}")
    return described


def is_export(folder: Path) -> bool:
    """Whether ``folder`` is an ONNX export; a checkpoint of others may have a model.onnx, too."""
    config = folder / CONFIG
    is_foreign = os.path.isfile(config) and b'"sha256"' not in read_bytes(config)
    return os.path.isfile(folder / ONNX) and not is_foreign


def read_checksum(folder: Path) -> str:
    """The checksum that a skill or an ONNX export names, not verified. Raises SkipError."""
    return str(read_json(folder / (CONFIG if is_export(folder) else RECORD)).get("sha256"))


def read_bytes(path: Path) -> bytes:
    """The content of ``path``. Raises SkipError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SkipError(f"{path}: cannot be read: {error.strerror}") from error


def skill_of(folder: Path) -> Path:
    """The skill of a job's folder. Else ``folder`` itself."""
    from skip_exp import results  # brings the schema, which an ONNX export does not need

    skill = (results.read_finished(folder) or {}).get("skill")
    is_job = isinstance(skill, str) and not os.path.isfile(folder / RECORD)
    return folder / str(skill) if is_job else folder


def find_skill(folder: str | Path) -> Path:
    """The full path of the skill in ``folder``, or in a job's folder.

    Raises:
        SkipError: an export that another class reads.
    """
    skill = skill_of(Path(folder).expanduser().absolute())
    if not os.path.isfile(skill / RECORD):  # no error where it may not look
        if os.path.isfile(skill / CODE):
            raise SkipError(
                f"{skill}: an hf export without the skill's own files; "
                "AutoModelForSequenceClassification.from_pretrained loads it"
            )
        if is_export(skill):
            raise SkipError(f"{skill}: an ONNX export; skip_exp.OnnxSkill.load reads it")
    return skill


def read_about(folder: Path) -> SkillRecord:
    """The record of a skill or an ONNX export; loading it verifies the checksum.

    Raises:
        SkipError: there is none, or it is damaged.
    """
    path = folder / CONFIG if is_export(folder) else find_skill(folder) / RECORD
    described = read_json(path)
    known = {name: described[name] for name in SkillRecord.model_fields if name in described}
    return parse_record(path, known, SkillRecord)
