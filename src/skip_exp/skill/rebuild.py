"""Rebuild a skill's model: prune the backbone, add prompt and readout; in bf16 where asked."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedTokenizerBase

from skip_exp.backbones.load import Backbone, build_readout, load_backbone
from skip_exp.errors import SkipError
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut
from skip_exp.models.trained import (
    fold_updates,
    load_trainable,
    skill_parameters,
    train_only,
)
from skip_exp.skill.record import SkillRecord
from skip_exp.utils.machine import multiplies_bf16

SERVING_PRECISIONS = ("32-true", "bf16", "auto")

# A weight that several skills share stays one weight; it is freed with its original.
_cast: WeakIdKeyDictionary = WeakIdKeyDictionary()


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
    model = cut(uncut_model(about, backbone), keep)
    train_only(model, about.train, about.rank or 0)
    _fill(folder, model, state)
    model.temperature = about.temperature
    return model.eval(), backbone.tokenizer


def uncut_model(about: SkillRecord, backbone: Backbone) -> SoftPromptModel:
    """The whole ``backbone`` with a new prompt and readout of the skill's kinds and sizes."""
    prompt = about.prompt
    soft = PROMPT_CLASSES[prompt.kind].build(
        backbone.model, backbone.family, prompt.length, prompt.decoder
    )
    words, pooling = tuple(about.words), about.backbone.pooling
    readout = build_readout(backbone, len(about.labels), words, pooling)
    return SoftPromptModel(backbone.model, backbone.family, soft, readout)


def whole_model(about: SkillRecord) -> SoftPromptModel:
    """The dense baseline for size and speed: prompt and readout are untrained.

    It has the whole backbone, even if the skill uses only the first layers.
    """
    b = about.backbone
    return uncut_model(about, load_backbone(b.name, b.path, b.family, b.readout))


def _fill(folder: Path, model: SoftPromptModel, state: Mapping[str, Tensor]) -> None:
    """Copy the trained parameters into ``model`` and merge low-rank updates. Raises SkipError."""
    trained = skill_parameters(model)
    for name in sorted(trained.keys() | state.keys()):
        expected = tuple(trained[name].shape) if name in trained else "nothing"
        stored = tuple(state[name].shape) if name in state else "nothing"
        if expected != stored:
            raise SkipError(
                f"{folder}: does not fit its backbone: {name} is {stored}, not {expected}"
            )
    load_trainable(model, dict(state))
    fold_updates(model.backbone)


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


def wants_bf16(precision: str) -> bool:
    """Whether ``precision`` means bf16 here; ``auto`` does where that is faster.

    Raises:
        SkipError: it is none of SERVING_PRECISIONS.
    """
    if precision not in SERVING_PRECISIONS:
        raise SkipError(f"precision={precision}: must be one of {', '.join(SERVING_PRECISIONS)}")
    return precision == "bf16" or (precision == "auto" and multiplies_bf16())


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
