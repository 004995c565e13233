"""The files of a skill: safetensors and JSON under one checksum, no pickle.

``skill.safetensors`` has prompt, readout and keep; ``skill.json`` says what they are, which
backbone they need, and the SHA-256 over both files. Nothing here touches a backbone.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from skip_exp.errors import SkipError, first_line
from skip_exp.models.lora import FACTORS
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel, trainable_state
from skip_exp.skill.record import ABOUT, VERSION, SkillRecord, parse_record, read_bytes, read_json
from skip_exp.utils import files

TENSORS = "skill.safetensors"
KEEP = "keep/"  # what the names of these tensors begin with
# Of a skill whose every weight was trained, in the folder of the hf format: its weights stand in
# that format's file alone. A field of `skill.json`: {sha256 of the file, names {ours: there}}.
SHARED, MODEL = "shared", "model.safetensors"


def save_skill(
    folder: Path,
    model: SoftPromptModel,
    keep: Keep,
    about: SkillRecord,
) -> Path:
    """Write the skill of a cut ``model`` into ``folder`` and return the folder.

    Tensors: ``prompt.*``, ``readout.*`` and of ``backbone.*`` biases, norms and low-rank factors as
    trained (fp32), ``keep/<site>`` int32 indices. A write that is cut short leaves the old skill,
    or files that are refused, never a wrong skill.
    """
    write_described(folder, TENSORS, trainable_state(model), keep, ABOUT, about.stored())
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


def read_skill(folder: Path) -> tuple[SkillRecord, dict[str, Tensor]]:
    """A skill's description and tensors, verified; the backbone is not touched.

    Raises:
        SkipError: see :meth:`Skill.load`.
    """
    described, tensors = read_whole(folder)
    about = parse_record(folder / ABOUT, described)
    check_tensors(folder / TENSORS, about, tensors)
    stored, told = _factor_bytes(tensors), (about.factors or {}).get("bytes", 0)
    if stored != told:  # a rank is believed only where it fits the bytes, see skill.rebuild
        raise SkipError(f"{folder / TENSORS}: factors.bytes={told}: {stored} are stored")
    return about, tensors


def read_whole(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What describes a skill, unchecked, and all its tensors, shared ones too. Raises SkipError."""
    described, tensors = read_described(folder, TENSORS, ABOUT)
    if SHARED in described:
        tensors |= _shared(folder, described.pop(SHARED))
    return described, tensors


def _shared(folder: Path, shared: Any) -> dict[str, Tensor]:
    content = read_bytes(folder / MODEL)
    keys = shared.keys() if isinstance(shared, dict) else set()
    if keys != {"sha256", "names"} or not isinstance(shared["names"], dict):
        raise SkipError(f"{folder / ABOUT}: field {SHARED!r} must have sha256 and names")
    if shared["sha256"] != hashlib.sha256(content).hexdigest():
        raise SkipError(f"{folder}: damaged or altered: {MODEL} is not what {ABOUT} describes")
    try:
        stored = load(content)
        return {ours: stored[there] for ours, there in shared["names"].items()}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # a name that is none
        raise SkipError(f"{folder / MODEL}: damaged: {first_line(error)}") from error


def _factor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Of low-rank updates, in fp32."""
    ends = tuple(f".{name}" for name in FACTORS)
    names = [name for name in tensors if name.startswith("backbone.") and name.endswith(ends)]
    return sum(4 * tensors[name].numel() for name in names)


def read_described(
    folder: Path, tensors_name: str, about_name: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What :func:`write_described` wrote: ``about`` and all tensors. Raises SkipError."""
    described = read_json(folder / about_name)
    content = read_bytes(folder / tensors_name)
    try:
        is_right = described.pop("sha256", None) == _checksum(content, described)
    except (ValueError, RecursionError):  # nested to the limit, half a character
        is_right = False
    if not is_right:
        raise SkipError(
            f"{folder}: damaged or altered: the checksum of {tensors_name} and {about_name} "
            "does not match"
        )
    try:
        return described, load(content)
    except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a type torch has not
        raise SkipError(f"{folder / tensors_name}: damaged: {first_line(error)}") from error


def check_tensors(path: Path, about: SkillRecord, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that no skill has, and a prompt longer than what is stored of it.

    The file is read by then, so nothing that is built for it later is larger by more than a
    layer's width. ``path`` is for the message.

    Raises:
        SkipError: a keep that is not sorted indices, another tensor that is not finite numbers.
    """
    for name, tensor in tensors.items():
        if name.startswith(KEEP):
            is_right = tensor.dtype in (torch.int32, torch.int64) and tensor.dim() in (1, 2)
            is_right = is_right and bool((tensor >= 0).all() and (tensor.diff() > 0).all())
            needed = "sorted indices from 0"
        else:
            is_right = not tensor.is_floating_point() or bool(tensor.isfinite().all())
            needed = "finite numbers"
        if not is_right:
            raise SkipError(f"{path}: {name} must be {needed}")
    stored = [t for name, t in tensors.items() if name.startswith("prompt.")]
    longest = max((t.numel() for t in stored), default=0)
    if "." not in about.prompt["kind"]:  # one of ours: a virtual token a row
        longest = max((t.shape[0] for t in stored if t.dim()), default=0)
    if about.prompt["kind"] != "none" and about.prompt["length"] > longest:
        length = about.prompt["length"]
        raise SkipError(f"{path}: prompt.length={length}: more than the {longest} stored")


def split(tensors: Mapping[str, Tensor]) -> tuple[Keep, dict[str, Tensor]]:
    """keep, and the parameters."""
    keep = {n.removeprefix(KEEP): t.long() for n, t in tensors.items() if n.startswith(KEEP)}
    return keep, {n: t for n, t in tensors.items() if not n.startswith(KEEP)}
