"""Builds the model that tune trains: a backbone with a prompt and a readout.

The prompt starts from real tokens, the readout from random weights. With ``tune.start`` prompt and
trained weights are those of a finished dense skill, its readout only with ``tune.epochs=0``. Such a
start from a larger task is SPoT for prompts (Vu et al. 2022) and STILTs for weights (Phang et al.
2018).
"""

import copy
import hashlib
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from skip_exp.backbones.embedded import SKILLS, find_shipped_skill
from skip_exp.backbones.load import Backbone, build_readout
from skip_exp.config.groups import OWN_WEIGHTS, TRAIN, TuneConfig
from skip_exp.config.schema import Config, PromptConfig
from skip_exp.data.rows import Rows
from skip_exp.errors import ConfigError, DataError, SkipError
from skip_exp.models.family import Family, HFModel, Keep, Site
from skip_exp.models.prompts import PROMPT_CLASSES, InputPrompt, PrefixPrompt, SoftPrompt
from skip_exp.models.readouts import HeadReadout, Readout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shape_of, site_sizes
from skip_exp.models.trained import State, fold_updates, load_trainable, train_only
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


def phase_seed(seed: int, phase: str) -> int:
    """A seed for each phase of a job: separate, so that a cached phase changes nothing later."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{phase}".encode()).digest()[:4], "big")


def build_model(
    data: Rows,
    backbone: Backbone,
    pooling: str,
    prompt: PromptConfig,
    settings: TuneConfig,
    start: Start | None,
    seed: int,
    *,
    shares_backbone: bool = True,
) -> SoftPromptModel:
    """The model before tuning, on the CPU; what ``settings.train`` trains requires gradients.

    The readout is always new. Prompt and trained weights are those of ``start``, if any.

    Args:
        pooling: what a head reads.
        seed: of the job.
        shares_backbone: False for a copy of the weights: those of later jobs stay on the CPU.
    """
    task = data.spec
    seed = phase_seed(seed, "init")
    L.seed_everything(seed, verbose=False)
    ids = start_ids(backbone.tokenizer, prompt.length, seed, torch.from_numpy(data.token_counts()))
    soft = new_prompt(
        prompt.kind,
        backbone.model,
        backbone.family,
        ids,
        silent=prompt.init == "silent",
    )
    readout = build_readout(backbone, task.num_labels, tuple(task.words), pooling)
    draw_weights(readout)
    weights = backbone.model if shares_backbone else copy.deepcopy(backbone.model)
    model = SoftPromptModel(weights, backbone.family, soft, readout)
    if settings.train in OWN_WEIGHTS:  # others share this backbone
        model = model.copy()
    if start is not None:
        train_only(model, start.train, start.rank, seed)  # has whatever the start brings
        load_trainable(model, start.state)
        if settings.train in ("layers", "full"):
            fold_updates(model.backbone)  # the weights themselves are trained from here on
    train_only(model, settings.train, settings.rank, seed)
    return model


def start_ids(tokenizer: PreTrainedTokenizerBase, length: int, seed: int, counts: Tensor) -> Tensor:
    """Choose the token ids [length] that a prompt starts from (Lester et al. 2021 compare starts).

    These are different tokens of the task's train rows, drawn in proportion to their counts, so
    that no virtual token starts from an embedding that was never trained. All repeat if there are
    fewer than ``length``.

    Args:
        counts: occurrences by token id.
    """
    weights = counts.double()
    for i in tokenizer.all_special_ids:
        if i < len(weights):
            weights[i] = 0
    generator = torch.Generator().manual_seed(seed)
    draws = min(length, int((weights > 0).sum()))
    if not draws:
        raise DataError("train: no text has a token that the backbone's tokenizer knows")
    ids = torch.multinomial(weights, draws, generator=generator).tolist()
    return torch.tensor((ids * length)[:length])


@torch.no_grad()
def new_prompt(
    kind: str,
    model: HFModel,
    family: Family,
    ids: Tensor,
    silent: bool = False,
) -> SoftPrompt:
    """Build a prompt that starts from the tokens ``ids`` [length].

    A prefix starts from the keys and values that the backbone computes for them. Li & Liang (2021)
    found such a start far better than a random one.

    Args:
        model: the backbone, prepared by ``family``.
        silent: the values of a prefix are zero: it only takes attention from the text.
    """
    prompt = PROMPT_CLASSES[kind].build(model, family, len(ids))
    words = model.get_input_embeddings().weight[ids]
    if isinstance(prompt, InputPrompt):
        prompt.embedding.copy_(words)
    elif isinstance(prompt, PrefixPrompt):
        _fill(prompt, model, family, words, silent)
    return prompt


def _fill(
    prompt: PrefixPrompt, model: HFModel, family: Family, embeds: Tensor, silent: bool
) -> None:
    """Fill in the keys and values that the backbone computes for ``embeds`` [length, H]."""
    projected: dict[nn.Linear, Tensor] = {}

    def store(linear: nn.Linear, _inputs: Any, out: Tensor) -> None:
        projected[linear] = out[0]

    linears: list[nn.Linear] = []  # keys and values of every attention
    for block in family.blocks(model):
        if block.attention is not None and block.name in prompt.names:
            block.attention.prefix = None
            linears += block.inner[1:]
    with ExitStack() as hooks:
        for linear in linears:
            hooks.enter_context(linear.register_forward_hook(store))
        family.encode(model, embeds[None], None, None)
    for i, (keys, values) in enumerate(zip(prompt.keys, prompt.values, strict=True)):
        keys.copy_(projected[linears[2 * i]].view_as(keys))
        if not silent:
            values.copy_(projected[linears[2 * i + 1]].view_as(values))


def draw_weights(readout: Readout) -> None:
    """Draw the weights of a readout that has new ones, in place."""
    if isinstance(readout, HeadReadout):
        readout.linear.reset_parameters()  # the draws of a seed are those that it always had
        nn.init.normal_(readout.linear.weight, std=0.02)
        nn.init.zeros_(readout.linear.bias)


def find_start(cfg: Config, backbone: Backbone) -> Start | None:
    """The skill that ``tune.start`` names, if any; that of the task is taken only if it fits.

    Raises:
        SkipError: there is no such skill, it is damaged or pruned, or it was trained with another
            backbone, prompt, rank or ``train``.
    """
    name = cfg.tune.start
    is_optional = name == cfg.task.start
    if name is None:
        return None
    folder = _find_folder(name, cfg.backbone.name, is_optional)
    if folder is None:
        return None
    about, tensors = read_skill(folder)
    keep, state, _ = split(tensors)
    # A task's skill is a default, which not every job fits; one that a user names must fit.
    problem = _find_problem(cfg, backbone, about, keep)
    if problem and is_optional:
        log.info("tune: a new start: the skill %s %s", name, problem)
        return None
    if problem:
        raise ConfigError("tune.start", name, problem)
    if cfg.tune.epochs:  # the readout is that of the skill's own labels
        state = {key: x for key, x in state.items() if not key.startswith("readout.")}
    # A skill that has seen a task's validation rows would leak them.
    origin = about.start or _name_origin(name, cfg.backbone.name, about)
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


def _name_origin(name: str, backbone: str, about: SkillRecord) -> str:
    """What results and cards call a start: of the package, a task of the user, or a hub id."""
    if find_shipped_skill(name, backbone):
        return f"{OWN_SKILLS}/{name}"
    return about.task if Path(name).expanduser().is_dir() else name


def _find_folder(name: str, backbone: str, is_optional: bool) -> Path | None:
    """The skill's folder: one of the package, else a local one or from a hub."""
    shipped = find_shipped_skill(name, backbone)
    if shipped or is_optional:
        return shipped
    path = Path(name).expanduser()
    if path.is_dir():
        return skill_of(path)
    if name.count("/") == 1:
        try:
            return download(name)
        except SkipError as error:
            raise ConfigError("tune.start", name, str(error)) from error
    known = ", ".join(sorted(folder.name for folder in SKILLS.glob("*-*"))) or "none"
    raise ConfigError(
        "tune.start",
        name,
        f"must be a skill's folder, a hub id, or of the package (NAME-BACKBONE): {known}",
    )


def _find_problem(cfg: Config, backbone: Backbone, about: SkillRecord, keep: Keep) -> str:
    """Why a job cannot start from a skill; empty if it can."""
    needed = about.backbone
    is_dense = needed.layers is None
    if is_dense and needed.content_hash != backbone.content_hash:
        return f"is a skill of another backbone, {needed.name}, not of {cfg.backbone.name}"
    sizes = site_sizes([shape_of(block) for block in backbone.family.blocks(backbone.model)])
    for site, indices in keep.items():
        is_dense = is_dense and len(indices) == sizes.get(Site(site))
    if not is_dense:
        return "is pruned; needs a dense skill (prune.ratio=0)"
    if not cfg.tune.epochs and about.labels != list(cfg.task.labels):
        return f"answers {', '.join(about.labels)}: needs task.labels in this order"
    # A job trains at least what the skill has trained.
    tune = cfg.tune
    train = max(tune.train, about.train, key=TRAIN.index)
    if about.train == "gates" and train == "lora":  # both are kept apart from frozen weights
        train = "gates"
    rank = about.rank if train == "lora" and about.rank else tune.rank
    settings = (
        ("backbone.readout", cfg.backbone.readout, needed.readout),
        ("prompt.kind", cfg.prompt.kind, about.prompt.kind),
        ("tune.train", tune.train, train),
        ("tune.rank", tune.rank, rank),
    )
    fixes = [f"{key}={wanted}" for key, value, wanted in settings if value != wanted]
    return f"needs {' '.join(fixes)}" if fixes else ""
