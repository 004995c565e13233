"""The files of a skill, safetensors and JSON under one checksum, and its model rebuilt from them.

``skill.safetensors`` holds prompt, readout and keep. ``skill.json`` holds their record and the
SHA-256 over both files.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedTokenizerBase

from skip_exp import results
from skip_exp.backbones.load import Backbone, build_readout, load_backbone
from skip_exp.config.groups import TaskConfig
from skip_exp.config.schema import DataConfig, to_object
from skip_exp.data.rows import Rows
from skip_exp.data.sources import load_rows
from skip_exp.errors import SkipError
from skip_exp.models.family import Keep, Site
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from skip_exp.models.trained import (
    State,
    fold_updates,
    load_trainable,
    skill_parameters,
    train_only,
    trainable_state,
)
from skip_exp.skill.record import (
    RECORD,
    TENSORS,
    VERSION,
    SkillRecord,
    checksum,
    loading,
    parse_record,
    read_bytes,
    read_json,
)
from skip_exp.utils import files
from skip_exp.utils.machine import multiplies_bf16

# Prefixes of the names of kept indices, and of the ranges that 8-bit scales follow from.
KEEP = "keep/"
RANGE = "range/"
LARGEST_HALF = torch.finfo(torch.half).max

# A weight that several skills share stays one weight; it is freed with its original.
_cast: WeakIdKeyDictionary = WeakIdKeyDictionary()


def save_skill(
    folder: Path,
    model: SoftPromptModel,
    keep: Keep,
    record: SkillRecord,
    ranges: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the skill of a pruned ``model`` into ``folder`` and return the folder.

    Tensors: ``prompt.*``, ``readout.*`` and what was trained of ``backbone.*``, in fp32;
    ``keep/<site>``, uint16 indices (T5-11B's 65,536 units fit); ``range/<linear>``, fp16.

    Args:
        ranges: see :func:`skip_exp.skill.ranges.measure_ranges`.
    """
    tensors = trainable_state(model)
    for site, indices in keep.items():
        tensors[f"{KEEP}{site}"] = indices.to(torch.uint16)
    for name, largest in (ranges or {}).items():
        tensors[f"{RANGE}{name}"] = largest.clamp(max=LARGEST_HALF).half()
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


def read_skill(folder: Path) -> tuple[SkillRecord, dict[str, Tensor]]:
    """Read and verify a skill's record and tensors, without a backbone.

    Raises:
        SkipError: see :meth:`Skill.load`.
    """
    described = read_json(folder / RECORD)
    content = read_bytes(folder / TENSORS)
    if described.pop("sha256", None) != checksum(content, described):
        raise SkipError(f"{folder}: damaged or altered: wrong checksum of {TENSORS} and {RECORD}")
    with loading(folder / TENSORS):
        return parse_record(folder / RECORD, described, SkillRecord), load(content)


def split(
    tensors: Mapping[str, Tensor],
) -> tuple[Keep, dict[str, Tensor], dict[str, Tensor]]:
    """Separate the keep, the parameters and the ranges."""
    keep = {}
    parameters = {}
    ranges = {}
    for name, tensor in tensors.items():
        if name.startswith(KEEP):
            keep[name.removeprefix(KEEP)] = tensor.long()
        elif name.startswith(RANGE):
            ranges[name.removeprefix(RANGE)] = tensor
        else:
            parameters[name] = tensor
    return keep, parameters, ranges


def job_result(folder: Path | None) -> Mapping[str, Any]:
    """The result of the job that wrote the skill in ``folder``; empty where there is none.

    It lies beside a job's own skill, and in the folder of a saved one.
    """
    if folder is None:
        return {}
    is_inside = (folder / results.FILE).is_file()
    file = (folder if is_inside else folder.parent) / results.FILE
    loaded = results.load(file) if file.is_file() else []
    # A file beside it may be another skill's.
    if not loaded or not (is_inside or loaded[0].skill == folder.name):
        return {}
    return loaded[0].to_dict()


def read_job_rows(about: SkillRecord, folder: Path | None) -> Rows:
    """All splits of the task of the skill in ``folder``.

    Args:
        folder: of the skill, beside which a result names the source of the rows.

    Raises:
        SkipError: no result names them, or they cannot be read or are not those that the job read.
    """
    result = job_result(folder)
    config = result.get("config", {})
    task = config.get("task")
    data = config.get("data", {})
    if not task:
        raise SkipError(f"no {results.FILE} beside {folder} names the job's rows")
    source, _, directory = str(about.scores.data).partition(":")
    options = DataConfig(
        source=source,
        dir=data.get("dir") or directory if source == "local" else None,
        drop_bad=data.get("drop_bad", False),
        deduplicate=data.get("deduplicate", False),
        train_rows=data.get("train_rows"),
        sep=data.get("sep"),
        encoding=data.get("encoding", "utf-8"),
    )
    # The seed decides which rows are set apart, so the splits are those of the job.
    rows = load_rows(to_object(task, TaskConfig), options, config.get("seed", 1))
    if result.get("data_hash") not in (None, rows.read):
        raise SkipError(f"the rows of {rows.source} have changed since the job read them")
    return rows


def rebuild(
    folder: Path,
    about: SkillRecord,
    keep: Keep,
    state: State,
    backbone_path: str | Path | None,
) -> tuple[SoftPromptModel, PreTrainedTokenizerBase]:
    """The model of the skill in ``folder`` and its tokenizer, as :meth:`Skill.load` describes.

    Raises SkipError.
    """
    # A checksum says that nothing has changed, not that the indices fit this backbone.
    backbone = _find_backbone(folder, about, backbone_path)
    whole = uncut_model(about, backbone)
    sizes = site_sizes(shapes_of(whole))
    for site, indices in keep.items():
        neurons = range(sizes.get(Site(site), 0))
        if indices.tolist() != sorted(set(indices.tolist()) & set(neurons)):
            raise SkipError(f"{folder}: {KEEP}{site}: must be rising indices of its neurons")
    # The updates that training made must be there to be loaded, and to be merged after it.
    model = cut(whole, keep)
    train_only(model, about.train, about.rank or 0)
    trained = skill_parameters(model)
    for name in sorted(trained.keys() | state.keys()):
        expected = tuple(trained[name].shape) if name in trained else "nothing"
        stored = tuple(state[name].shape) if name in state else "nothing"
        if expected != stored:
            raise SkipError(
                f"{folder}: does not fit its backbone: {name} is {stored}, not {expected}"
            )
    load_trainable(model, state)
    fold_updates(model.backbone)
    model.temperature = about.temperature
    return model.eval(), backbone.tokenizer


def uncut_model(about: SkillRecord, backbone: Backbone) -> SoftPromptModel:
    """The whole ``backbone`` with a new prompt and readout of the skill's kinds and sizes."""
    prompt = about.prompt
    soft = PROMPT_CLASSES[prompt.kind].build(backbone.model, backbone.family, prompt.length)
    words = tuple(about.words)
    readout = build_readout(backbone, len(about.labels), words, about.backbone.pooling)
    return SoftPromptModel(backbone.model, backbone.family, soft, readout)


def whole_model(about: SkillRecord) -> SoftPromptModel:
    """The dense baseline for size and speed: prompt and readout are untrained.

    It has the whole backbone, even if the skill uses only the first layers.
    """
    needed = about.backbone
    backbone = load_backbone(needed.name, needed.path, needed.family, needed.readout)
    return uncut_model(about, backbone)


def _find_backbone(folder: Path, about: SkillRecord, backbone_path: str | Path | None) -> Backbone:
    """The skill's own backbone, from ``backbone_path`` if it has moved. Raises SkipError."""
    needed = about.backbone
    path = needed.path if backbone_path is None else str(backbone_path)
    try:
        loaded = load_backbone(needed.name, path, needed.family, needed.readout, needed.layers)
    except (SkipError, OSError, ValueError) as error:
        raise SkipError(
            f"{folder}: its backbone {needed.name} could not be loaded: {error}; where it has "
            "moved, name its folder: backbone=, or --backbone"
        ) from error
    if loaded.content_hash != needed.content_hash:
        raise SkipError(
            f"{folder}: backbone {path} is not the skill's backbone, or it has changed: content "
            f"hash {loaded.content_hash[:12]}, needed {needed.content_hash[:12]}"
        )
    return loaded


def to_bf16(model: SoftPromptModel) -> None:
    """Convert backbone and prompt of ``model`` to bf16, in place.

    Parameters are replaced, never written to: other models that share the originals keep them.
    """
    for part in (model.backbone, model.prompt):
        for module in part.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter not in _cast:
                    half = parameter.detach().bfloat16()
                    _cast[parameter] = nn.Parameter(half, requires_grad=False)
                setattr(module, name, _cast[parameter])


# What turns an fp32 model into one of each precision, in place.
PRECISIONS: dict[str, Callable[[SoftPromptModel], None]] = {
    "32-true": lambda model: None,
    "bf16": to_bf16,
}


def find_precision(name: str) -> Callable[[SoftPromptModel], None]:
    """The entry of PRECISIONS; ``auto`` is bf16 where the processor multiplies it faster.

    Raises:
        SkipError: there is none.
    """
    if name == "auto":
        name = "bf16" if multiplies_bf16() else "32-true"
    if name not in PRECISIONS:
        raise SkipError(f"precision={name}: must be one of {', '.join(PRECISIONS)}, auto")
    return PRECISIONS[name]
