"""The skill file: what one task needs on top of a backbone; kilobytes, no pickle.

A folder with ``skill.safetensors`` (prompt, readout, keep) and ``skill.json`` (what it is, which
backbone it needs, a SHA-256 of the tensors).
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.tuning import trainable_state

VERSION = 1
TENSORS, ABOUT = "skill.safetensors", "skill.json"


@dataclass(frozen=True)
class SkillAbout:
    """What ``skill.json`` says beside version and checksum.

    Attributes:
        labels: class names in label order; ``words``: their label words.
        backbone: {name, path, family, readout, pooling, content_hash}.
        prompt: {kind, length, decoder}.
        max_length: tokens that a text is truncated to.
        scores: main metric and what it was.
    """

    task: str
    text: list[str]
    labels: list[str]
    words: list[str]
    backbone: dict[str, str]
    prompt: dict[str, str | int | bool]
    max_length: int
    scores: dict[str, str | float | None]


def save_skill(
    folder: Path, model: SoftPromptModel, keep: dict[str, Tensor], about: SkillAbout
) -> Path:
    """Write the skill of a cut ``model`` into ``folder`` and return the folder.

    Tensors: ``prompt.*`` and ``readout.*`` as trained (fp32), ``keep/<site>`` int32 indices.
    """
    tensors = trainable_state(model)
    tensors |= {f"keep/{site}": kept.to(torch.int32).contiguous() for site, kept in keep.items()}
    content = save(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TENSORS).write_bytes(content)
    described = {"version": VERSION, "sha256": hashlib.sha256(content).hexdigest()} | asdict(about)
    (folder / ABOUT).write_text(json.dumps(described, indent=1) + "\n")
    return folder
