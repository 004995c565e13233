"""Rebuild a skill's model: prune the backbone, add prompt and readout."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from skip_exp.errors import SkipError, first_line
from skip_exp.models import lora
from skip_exp.models.backbones import Backbone, load_backbone
from skip_exp.models.families.registry import FAMILIES
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.readouts import READOUT_CLASSES
from skip_exp.models.sites import Keep, Site, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable
from skip_exp.pruning.surgery import cut
from skip_exp.skill.files import KEEP
from skip_exp.skill.record import SkillRecord


def rebuild(
    folder: Path,
    about: SkillRecord,
    keep: Keep,
    state: Mapping[str, Tensor],
    backbone_path: str | Path | None,
) -> tuple[SoftPromptModel, PreTrainedTokenizerBase]:
    """The model of the skill in ``folder`` and its tokenizer, as :meth:`Skill.load` describes.

    Raises SkipError.
    """
    backbone = _find_backbone(folder, about, backbone_path)
    model = _cut_model(folder, about, backbone, keep, state)
    _fill(folder, model, state)
    model.temperature = about.temperature
    return model.eval(), backbone.tokenizer


def _cut_model(
    folder: Path, about: SkillRecord, backbone: Backbone, keep: Keep, state: Mapping[str, Tensor]
) -> SoftPromptModel:
    """``backbone`` pruned to ``keep``, before :func:`_fill` with ``state``. Raises SkipError."""
    try:
        whole = uncut_model(about, backbone.model, backbone.tokenizer, to_fill=True)
        _check_keep(keep, site_sizes(whole.shapes()))
        _check_length(about, whole, backbone.tokenizer)
        smaller = cut(whole, keep)
        _check_rank(smaller, about.rank or 0, state)
        smaller.train_only(about.train, about.rank or 0)
        return smaller
    except (SkipError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise SkipError(f"{folder}: does not fit its backbone: {first_line(error)}") from error


def _check_keep(keep: Keep, sizes: Mapping[Site, int]) -> None:
    for name, kept in keep.items():
        size = sizes.get(Site(name))
        if size is None:
            raise ValueError(f"the backbone has no {name}")
        if kept.numel() and int(kept.max()) >= size:
            raise ValueError(f"{KEEP}{name} must be indices below {size}")


def _check_rank(model: SoftPromptModel, rank: int, state: Mapping[str, Tensor]) -> None:
    """A rank that is not that of the stored factors would take any amount of memory."""
    linears = [linear for block in model.blocks() for linear in block.linears()]
    sizes = sum(x.in_features + x.out_features for x in linears if x.weight.numel())
    own = [name for name in state if name.startswith("backbone.")]
    stored = sum(state[name].numel() for name in own if name.endswith(lora.FACTORS))
    if stored != rank * sizes:
        raise ValueError(f"rank={rank}: {stored} numbers are stored, not {rank * sizes}")


def _check_length(
    about: SkillRecord, model: SoftPromptModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    special = tokenizer.num_special_tokens_to_add(len(about.text) == 2)
    if special >= about.max_length:
        raise ValueError(f"max_length={about.max_length}: {special} are special tokens")
    limit = model.family.positions(model.backbone)
    virtual = model.prompt.input_length + model.readout.added
    if limit is not None and about.max_length + virtual > limit:
        raise ValueError(f"max_length={about.max_length}: it has positions for {limit - virtual}")


def uncut_model(
    about: SkillRecord,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    to_fill: bool = False,
) -> SoftPromptModel:
    """The whole ``backbone`` with a new prompt and readout of the skill's kinds and sizes.

    Args:
        to_fill: parts whose sizes the record alone decides take no memory before :func:`_fill`.
    """
    family, prompt, kind = FAMILIES[about.backbone.family], about.prompt, about.backbone.readout
    with torch.device("meta") if to_fill else nullcontext():
        soft = PROMPT_CLASSES[prompt.kind].build(
            backbone, family, prompt.length, decoder=prompt.decoder
        )
    with torch.device("meta") if to_fill and kind == "head" else nullcontext():
        readout = READOUT_CLASSES[kind].build(
            backbone, tokenizer, len(about.labels), tuple(about.words), about.backbone.pooling
        )
    return SoftPromptModel(backbone, family, soft, readout)


def whole_model(about: SkillRecord, tokenizer: PreTrainedTokenizerBase) -> SoftPromptModel:
    """The dense baseline for size and speed: prompt and readout are untrained.

    It has the whole backbone, even if the skill uses only the first layers.
    """
    b = about.backbone
    backbone = load_backbone(b.name, b.path, b.family, b.readout)
    return uncut_model(about, backbone.model, tokenizer)


def _fill(folder: Path, model: SoftPromptModel, state: Mapping[str, Tensor]) -> None:
    """Copy the trained parameters into ``model`` and merge low-rank updates. Raises SkipError."""
    trained = model.skill_parameters()
    for name in sorted(trained.keys() | state.keys()):
        expected = tuple(trained[name].shape) if name in trained else "nothing"
        stored = tuple(state[name].shape) if name in state else "nothing"
        if expected != stored:
            raise SkipError(
                f"{folder}: does not fit its backbone: {name} is {stored}, not {expected}"
            )
    for part in (model.prompt, model.readout):
        if any(parameter.is_meta for parameter in part.parameters()):
            part.to_empty(device="cpu")
    load_trainable(model, dict(state))
    lora.fold(model.backbone)


def _find_backbone(folder: Path, about: SkillRecord, backbone_path: str | Path | None) -> Backbone:
    """The skill's own backbone, from ``backbone_path`` if it has moved. Raises SkipError."""
    needed = about.backbone
    path = needed.path if backbone_path is None else str(backbone_path)
    try:
        loaded = load_backbone(needed.name, path, needed.family, needed.readout, needed.layers)
    except (SkipError, OSError, ValueError) as error:
        hint = "; where it has moved, name its folder: backbone=, or --backbone"
        message = f"{folder}: its backbone {needed.name} could not be loaded: {error}{hint}"
        raise SkipError(message) from error
    if loaded.content_hash != needed.content_hash:
        raise SkipError(
            f"{folder}: backbone {path} is not the skill's backbone, or it has changed: content "
            f"hash {loaded.content_hash[:12]}, needed {needed.content_hash[:12]}"
        )
    return loaded
