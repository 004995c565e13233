"""The files of a skill: safetensors and JSON under one checksum, no pickle.

``skill.safetensors`` has prompt, readout and keep; ``skill.json`` says what they are, which
backbone they need, and the SHA-256 over both files. Nothing here touches a backbone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_origin

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from skip_exp.errors import SkipError
from skip_exp.machine import files
from skip_exp.models.backbones import first_line
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel, trainable_state
from skip_exp.pruning.reconstruct import Changes

VERSION = 1
TENSORS, ABOUT = "skill.safetensors", "skill.json"
CONFIG, ONNX = "config.json", "model.onnx"  # of an export
KEEP, CHANGE = "keep/", "change/"  # what the names of these tensors begin with


@dataclass(frozen=True)
class SkillAbout:
    """What ``skill.json`` says beside version and checksum.

    Attributes:
        labels: class names in label order; ``words``: their label words.
        backbone: {name, path, family, readout, pooling, content_hash}.
        prompt: {kind, length, decoder}.
        max_length: tokens that a text is truncated to.
        scores: main metric and what it was.
        train: what re-tuning trained; ``bias``: biases and norms are in the file, too.
    """

    task: str
    text: list[str]
    labels: list[str]
    words: list[str]
    backbone: dict[str, str]
    prompt: dict[str, Any]
    max_length: int
    scores: dict[str, str | float | None]
    train: str = "prompt_readout"


def save_skill(
    folder: Path,
    model: SoftPromptModel,
    keep: Keep,
    about: SkillAbout,
    changes: Changes | None = None,
) -> Path:
    """Write the skill of a cut ``model`` into ``folder`` and return the folder.

    Tensors: ``prompt.*`` and ``readout.*`` as trained (fp32), ``keep/<site>`` int32 indices,
    ``change/<block>.*`` what reconstruction added before re-tuning (fp32). A write that is cut
    short leaves the old skill, or files that are refused, never a wrong skill.
    """
    changed = {f"{CHANGE}{name}": tensor for name, tensor in (changes or {}).items()}
    state = trainable_state(model) | changed
    write_described(folder, TENSORS, state, keep, ABOUT, asdict(about))
    return folder


def write_described(
    folder: Path,
    tensors_name: str,
    state: dict[str, Tensor],
    keep: Keep,
    about_name: str,
    about: dict[str, Any],
) -> None:
    """Write tensors, and a JSON file with version, checksum and ``about``; each by renaming."""
    content = save(
        {name: t.detach().cpu().contiguous() for name, t in state.items()}
        | {f"{KEEP}{site}": kept.to(torch.int32).contiguous() for site, kept in keep.items()}
    )
    described = {"version": VERSION, "sha256": _checksum(content, about)} | about
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(folder / tensors_name, content)
    files.replace(folder / about_name, (json.dumps(described, indent=1) + "\n").encode())


def _checksum(tensors: bytes, about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(tensors)
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()


def read_skill(folder: Path) -> tuple[SkillAbout, dict[str, Tensor]]:
    """A skill's description and tensors, verified; the backbone is not touched.

    Raises:
        SkipError: see :meth:`Skill.load`.
    """
    described, tensors = read_described(folder, TENSORS, ABOUT)
    return parse_about(folder / ABOUT, described), tensors


def read_described(
    folder: Path, tensors_name: str, about_name: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What :func:`write_described` wrote: ``about`` and all tensors. Raises SkipError."""
    described = read_json(folder / about_name)
    content = _bytes(folder / tensors_name)
    if described.pop("sha256", None) != _checksum(content, described):
        raise SkipError(
            f"{folder}: damaged or altered: the checksum of {tensors_name} and {about_name} "
            "does not match"
        )
    try:
        return described, load(content)
    except SafetensorError as error:
        raise SkipError(f"{folder / tensors_name}: damaged: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The description in ``path``, of the version that is known. Raises SkipError."""
    try:
        described = json.loads(_bytes(path))
    except ValueError as error:
        raise SkipError(f"{path}: damaged, not JSON: {first_line(error)}") from error
    if not isinstance(described, dict) or "version" not in described:
        raise SkipError(f"{path}: not a skill: it has no version")
    if described.pop("version") != VERSION:
        version = json.loads(_bytes(path))["version"]
        raise SkipError(f"{path}: version {version!r} is unknown; this skip_exp reads {VERSION}")
    return described


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = path.parent / "skill" / path.name
        where = f"; is it {hint.parent}?" if hint.is_file() else ""
        raise SkipError(f"{path}: cannot be read: {error.strerror}{where}") from error


def parse_about(path: Path, described: Mapping[str, Any]) -> SkillAbout:
    """The known fields of ``described``; raises SkipError where one is missing or of a wrong type.

    ``path`` is for the message.
    """
    for field in fields(SkillAbout):
        kind: Any = get_origin(field.type) or field.type
        if not isinstance(described.get(field.name), kind):
            what = f"missing or not of type {kind.__name__}"
            raise SkipError(f"{path}: field {field.name!r} is {what}")
    about = SkillAbout(**{field.name: described[field.name] for field in fields(SkillAbout)})
    for name, part, keys in (
        ("backbone", about.backbone, "name path family readout pooling content_hash"),
        ("prompt", about.prompt, "kind length decoder"),
    ):
        for key in keys.split():
            if key not in part:
                raise SkipError(f"{path}: field '{name}.{key}' is missing")
    return about


def split(tensors: Mapping[str, Tensor]) -> tuple[Keep, Changes, dict[str, Tensor]]:
    """keep, what reconstruction changed, and the parameters."""
    keep = {n.removeprefix(KEEP): t.long() for n, t in tensors.items() if n.startswith(KEEP)}
    changes = {n.removeprefix(CHANGE): t for n, t in tensors.items() if n.startswith(CHANGE)}
    return keep, changes, {n: t for n, t in tensors.items() if not n.startswith((KEEP, CHANGE))}
