"""A skill at work: the shared backbone cut to what one task needs, answering texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from skip_exp.config.named import check_imported
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.backbones import Backbone, first_line, load_backbone
from skip_exp.models.families import FAMILIES
from skip_exp.models.precision import check_precision, to_bf16, wants_bf16
from skip_exp.models.prompts.build import build_prompt
from skip_exp.models.readouts.build import build_readout
from skip_exp.models.sites import Keep, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.reconstruct import Changes, apply
from skip_exp.pruning.surgery import cut
from skip_exp.skill.classifier import Classifier, Prediction
from skip_exp.skill.files import ABOUT, SkillAbout, read_skill, save_skill, split

__all__ = ["Prediction", "Skill", "SkillAbout", "save_skill"]


@dataclass(frozen=True)
class Skill(Classifier):
    """A tuned prompt on its cut backbone. Skills of one backbone share its untouched weights."""

    model: SoftPromptModel
    keep: Keep

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backbone: str | Path | None = None,
        precision: str = "32-true",
    ) -> "Skill":
        """Read a skill, or the stand-alone model that ``skip_exp.export`` wrote, on the CPU.

        Args:
            folder: where they were written to.
            backbone: folder or hub id to take the backbone from, where it has moved.
            precision: ``32-true``; ``bf16``: weights and activations in bf16, the readout in fp32;
                ``auto``: bf16 where the processor multiplies it, else fp32.

        Raises:
            SkipError: another precision; a file is missing, damaged, altered or of an unknown
                version; a part of somebody's own whose module was not imported before; the backbone
                cannot be had or is not the one that the skill was made on.
        """
        check_precision(precision)
        folder = Path(folder)
        if not (folder / ABOUT).is_file() and (folder / "config.json").is_file():
            from skip_exp.export import load_exported

            skill = load_exported(folder)
        else:
            skill = cls._read(folder, backbone)
        if wants_bf16(precision):
            to_bf16(skill.model)
        return skill

    @classmethod
    def _read(cls, folder: Path, backbone: str | Path | None) -> "Skill":
        about, tensors = read_skill(folder)
        check_parts(folder, about)
        found = _backbone(folder, about, backbone)
        keep, changes, state = split(tensors)
        model = cut_model(folder, about, found.model, found.tokenizer, keep, changes)
        _fill(folder, model, state)
        return cls(about, found.tokenizer, model.eval(), keep)

    def ready(self) -> Callable[..., Tensor]:
        self.model.prompt.install(self.model.attention_blocks())  # constant from here on
        return self.model.logits


def check_parts(folder: Path, about: SkillAbout) -> None:
    """Refuse prompts and readouts of somebody's own whose module was not imported before."""
    try:
        check_imported("prompt.kind", about.prompt["kind"])
        check_imported("backbone.readout", about.backbone["readout"])
    except ConfigError as error:
        raise SkipError(f"{folder}: {error}") from error


def _backbone(folder: Path, about: SkillAbout, moved: str | Path | None) -> Backbone:
    wanted = about.backbone
    path = wanted["path"] if moved is None else str(moved)
    try:
        found = load_backbone(wanted["name"], path, wanted["family"], wanted["readout"])
    except SkipError as error:
        raise SkipError(
            f"{folder}: its backbone {wanted['name']} is not to be had: {error}"
        ) from error
    if found.content_hash != wanted["content_hash"]:
        raise SkipError(
            f"{folder}: backbone {path} is not the one it was made on, or has changed: content "
            f"hash {found.content_hash[:12]}, needed {wanted['content_hash'][:12]}"
        )
    return found


def cut_model(
    folder: Path,
    about: SkillAbout,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    keep: Keep,
    changes: Changes,
) -> SoftPromptModel:
    """``backbone`` cut to ``keep`` and changed; its prompt and readout are yet to be filled."""
    try:
        whole = uncut_model(about, backbone, tokenizer)
        unknown = set(keep) - set(site_sizes(whole.shapes()))
        if unknown:
            raise ValueError(f"the backbone has no {min(unknown)}")
        smaller = cut(whole, keep)
        apply(smaller, changes)
        smaller.train_only(about.train)
        return smaller
    except (SkipError, ValueError, RuntimeError, IndexError, KeyError, TypeError) as error:
        raise SkipError(f"{folder}: does not fit its backbone: {first_line(error)}") from error


def uncut_model(
    about: SkillAbout, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> SoftPromptModel:
    """The whole ``backbone`` with an empty prompt and readout of the skill's kinds and sizes."""
    family, prompt = FAMILIES[about.backbone["family"]], about.prompt
    soft = build_prompt(
        prompt["kind"],
        backbone,
        family,
        length=prompt["length"],
        ids=None,
        std=0.0,
        seed=0,
        decoder=prompt["decoder"],
    )
    readout = build_readout(
        about.backbone["readout"],
        backbone,
        tokenizer,
        labels=len(about.labels),
        words=tuple(about.words),
        pooling=about.backbone["pooling"],
    )
    return SoftPromptModel(backbone, family, soft, readout)


def whole_model(about: SkillAbout, tokenizer: PreTrainedTokenizerBase) -> SoftPromptModel:
    """As fast as the skill's dense model was: the whole backbone, prompt and readout untrained."""
    b = about.backbone
    backbone = load_backbone(b["name"], b["path"], b["family"], b["readout"])
    return uncut_model(about, backbone.model, tokenizer)


def _fill(folder: Path, model: SoftPromptModel, state: Mapping[str, Tensor]) -> None:
    """Put prompt and readout in place; nothing is made to fit."""
    trained = model.skill_parameters()
    for name in sorted(trained.keys() | state.keys()):
        wanted = tuple(trained[name].shape) if name in trained else "nothing"
        found = tuple(state[name].shape) if name in state else "nothing"
        if wanted != found:
            raise SkipError(f"{folder}: does not fit its backbone: {name} is {found}, not {wanted}")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(state[name])
