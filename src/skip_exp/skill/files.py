"""The files of a skill: safetensors and JSON under one checksum, no pickle.

``skill.safetensors`` holds prompt, readout and keep. ``skill.json`` holds their record and the
SHA-256 over both files. No backbone is loaded here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import trainable_state
from skip_exp.skill.record import (
    RECORD,
    TENSORS,
    VERSION,
    SkillRecord,
    checksum,
    parse_record,
    read_bytes,
    read_json,
)
from skip_exp.utils import files

# Prefixes of the names of kept indices, and of the ranges that 8-bit scales follow from.
KEEP, RANGE = "keep/", "range/"
LARGEST = torch.finfo(torch.half).max


def save_skill(
    folder: Path,
    model: SoftPromptModel,
    keep: Keep,
    record: SkillRecord,
    ranges: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the skill of a pruned ``model`` into ``folder`` and return the folder.

    Tensors: ``prompt.*``, ``readout.*`` and what was trained of ``backbone.*``, in fp32;
    ``keep/<site>``, int32 indices; ``range/<linear>``, fp16.

    Args:
        ranges: see :func:`skip_exp.skill.ranges.measure_ranges`.
    """
    tensors = trainable_state(model)
    tensors |= {f"{KEEP}{site}": kept.to(torch.int32) for site, kept in keep.items()}
    for name, x in (ranges or {}).items():
        tensors[f"{RANGE}{name}"] = x.clamp(max=LARGEST).half()
    write_skill(folder, tensors, record.stored())
    return folder


def write_skill(folder: Path, tensors: Mapping[str, Tensor], described: dict[str, Any]) -> None:
    """Write the two files of a skill, each by renaming.

    An interrupted write leaves the old skill or files that are refused, never a wrong skill.
    """
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    head = {"version": VERSION, "sha256": checksum(content, described)}
    files.save(folder / TENSORS, content)
    files.save(folder / RECORD, (json.dumps(head | described, indent=1) + "\n").encode())


def share_skill(source: Path, folder: Path) -> None:
    """Write the skill in ``source`` into ``folder``, without local folders. Raises SkipError."""
    record, tensors = read_skill(source)
    write_skill(folder, tensors, record.to_share().stored())


def read_skill(folder: Path) -> tuple[SkillRecord, dict[str, Tensor]]:
    """Read and verify a skill's record and tensors, without a backbone.

    Raises:
        SkipError: see :meth:`Skill.load`.
    """
    described, content = read_json(folder / RECORD), read_bytes(folder / TENSORS)
    if described.pop("sha256", None) != checksum(content, described):
        raise SkipError(f"{folder}: damaged or altered: wrong checksum of {TENSORS} and {RECORD}")
    return parse_record(folder / RECORD, described, SkillRecord), load(content)


def split(
    tensors: Mapping[str, Tensor],
) -> tuple[Keep, dict[str, Tensor], dict[str, Tensor]]:
    """Separate the keep, the parameters and the ranges."""
    keep = {n.removeprefix(KEEP): t.long() for n, t in tensors.items() if n.startswith(KEEP)}
    ranges = {n.removeprefix(RANGE): t for n, t in tensors.items() if n.startswith(RANGE)}
    own = {n: t for n, t in tensors.items() if not n.startswith((KEEP, RANGE))}
    return keep, own, ranges


def job_result(folder: Path | None) -> Mapping[str, Any]:
    """The result of the job that wrote the skill in ``folder``; empty where there is none.

    It lies beside a job's own skill, and in the folder of a saved one.
    """
    if folder is None:
        return {}
    inside, beside = folder / results.FILE, folder.parent / results.FILE
    found = results.load(inside if inside.is_file() else [beside] if beside.is_file() else [])
    if not found or not (inside.is_file() or found[0].skill == folder.name):
        return {}
    return found[0].to_dict() | {"path": found[0].path}
