"""The dense skill that tuning starts from (``tune.start``).

Its prompt and its trained weights are taken, its readout only with ``tune.epochs=0``. Such a start
from a larger task is SPoT for prompts (Vu et al. 2022) and STILTs for weights (Phang et al. 2018).
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from skip_exp.backbones.embedded import SKILLS, find_shipped_skill
from skip_exp.backbones.load import Backbone
from skip_exp.config.groups import TRAIN
from skip_exp.config.schema import Config, backbone_label
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.family import Keep, Site
from skip_exp.models.surgery import shape_of, site_sizes
from skip_exp.models.trained import State
from skip_exp.skill.export.huggingface import download
from skip_exp.skill.files import read_skill, split
from skip_exp.skill.record import SkillRecord, read_checksum, skill_of

log = logging.getLogger(__name__)

OWN_SKILLS = "skip_exp"
SEEN = {f"{OWN_SKILLS}/nli": ("mnli", "snli")}  # tasks that score rows that a skill was trained on


@dataclass(frozen=True, repr=False)
class Start:
    """What a model takes from a finished dense skill of its backbone.

    Attributes:
        name: as ``tune.start`` or ``task.start`` gives it.
        content: checksum of the skill.
        origin: the first skill in a chain of starts, without a local path.
        length: tokens of its prompt.
        train, rank: what was trained, and the rank of its low-rank updates, or 0.
        state: prompt, trained vectors, factors and weights, by name.
    """

    name: str
    content: str
    origin: str
    length: int
    train: str
    rank: int
    state: State


def find_start(cfg: Config, backbone: Backbone) -> Start | None:
    """The skill that ``tune.start`` names, if any; that of the task is taken only if it fits.

    Raises:
        SkipError: there is no such skill, it is damaged or pruned, or it was trained with another
            backbone, prompt, rank or ``train``.
    """
    name = cfg.tune.start
    is_optional = name == cfg.task.start
    folder = None if name is None else _folder(name, cfg.backbone.name, is_optional)
    if name is None or folder is None:
        return None
    about, tensors = read_skill(folder)
    keep, state, _ = split(tensors)
    problem = _unfit(cfg, backbone, about, keep)
    if problem and is_optional:
        log.info("tune: a new start: the skill %s %s", name, problem)
        return None
    if problem:
        raise ConfigError("tune.start", name, problem)
    if cfg.tune.epochs:
        state = {key: t for key, t in state.items() if not key.startswith("readout.")}
    origin = about.start or _origin(name, cfg.backbone.name, about)
    if cfg.task.name in SEEN.get(origin, ()):
        raise ConfigError(
            "tune.start",
            name,
            f"was trained on rows that {cfg.task.name} scores; use tune.start=null",
        )
    log.info("tune: starts from the skill %s, trained on %s", name, about.task)
    return Start(
        name=name,
        content=read_checksum(folder),
        origin=origin,
        length=about.prompt.length,
        train=about.train,
        rank=about.rank or 0,
        state=state,
    )


def _origin(name: str, backbone: str, about: SkillRecord) -> str:
    """What results and cards call a start: of the package, a task of the user, or a hub id."""
    if find_shipped_skill(name, backbone):
        return f"{OWN_SKILLS}/{name}"
    return about.task if Path(name).expanduser().is_dir() else name


def _folder(name: str, backbone: str, is_optional: bool) -> Path | None:
    """The skill's folder: one of the package, else a local one or from a hub."""
    if (shipped := find_shipped_skill(name, backbone)) or is_optional:
        return shipped
    if (path := Path(name).expanduser()).is_dir():
        return skill_of(path)
    if name.count("/") == 1:
        try:
            return download(name)
        except SkipError as error:
            raise ConfigError("tune.start", name, str(error)) from error
    shipped_here = ", ".join(sorted(each.name for each in SKILLS.glob("*-*"))) or "none"
    raise ConfigError(
        "tune.start",
        name,
        f"must be a skill's folder, a hub id, or of the package (NAME-BACKBONE): {shipped_here}",
    )


def _unfit(cfg: Config, backbone: Backbone, about: SkillRecord, keep: Keep) -> str:
    """Why a job cannot start from a skill; empty if it can."""
    needed = about.backbone
    if needed.content_hash != backbone.content_hash:
        other = backbone_label(needed.name, needed.layers)
        return f"is a skill of another backbone, {other}, not of {cfg.backbone.label}"
    sizes = site_sizes([shape_of(block) for block in backbone.family.blocks(backbone.model)])
    if any(len(kept) != sizes.get(Site(site)) for site, kept in keep.items()):
        return "is pruned; needs a dense skill (prune.ratio=0)"
    if not cfg.tune.epochs and about.labels != [*cfg.task.labels]:
        return f"answers {', '.join(about.labels)}: needs task.labels in this order"
    tune, train = cfg.tune, max(cfg.tune.train, about.train, key=TRAIN.index)
    rank = about.rank if train == "lora" and about.rank else tune.rank
    differing = [
        f"{key}={needed}"
        for key, given, needed in (
            ("backbone.readout", cfg.backbone.readout, about.backbone.readout),
            ("prompt.kind", cfg.prompt.kind, about.prompt.kind),
            ("tune.train", tune.train, train),
            ("tune.rank", tune.rank, rank),
        )
        if given != needed
    ]
    return f"needs {' '.join(differing)}" if differing else ""
