"""Refusals that need the backbone (its positions, its readout, its neurons)."""

import logging
from typing import Any

from skip_exp.backbones.load import Backbone, class_names
from skip_exp.backbones.readout import build_readout
from skip_exp.config.schema import Config
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.readouts import READOUT_CLASSES, Seq2SeqReadout
from skip_exp.models.shapes import shape_of
from skip_exp.pruning import allocate

log = logging.getLogger(__name__)

MANY = 200  # decoder positions per text; at 1,232 a batch of 32 takes 12 GB


def check(cfg: Config, backbone: Backbone) -> None:
    """Refuse what ``backbone`` cannot do, before any work. Raises SkipError."""
    task = cfg.task
    built = build_readout(backbone, task.num_labels, tuple(task.words))
    if isinstance(built, Seq2SeqReadout) and built.targets.numel() > MANY:
        log.warning(
            "task.words: %d label words of up to %d pieces are decoded for every text; "
            "backbone.readout=head needs far less time and memory",
            *built.targets.shape,
        )
    if cfg.backbone.readout == "classifier":
        _check_classes(task.labels, dict(backbone.model.config.id2label or {}))
    blocks = backbone.family.blocks(backbone.model)
    if not blocks:
        raise SkipError(f"backbone={backbone.name}: has no layers")
    allocate.check(
        [shape_of(block) for block in blocks],
        ratio=cfg.prune.goal.ratio,
        sites=cfg.prune.sites,
        allocation=cfg.prune.allocation,
        layers=cfg.prune.layers,
    )


def _check_classes(labels: list[str], classes: dict[Any, str]) -> None:
    """The task's labels must be the checkpoint's classes, in its order, where these have names."""
    names = class_names(classes)
    if names is not None and [*labels] != names:
        why = f"must be the checkpoint's classes, in its order: {', '.join(names)}"
        raise ConfigError("task.labels", labels, why)


def check_length(cfg: Config, backbone: Backbone) -> None:
    """Refuse a prompt and texts that have no room beside each other. Raises ConfigError."""
    limit, prompt = backbone.max_positions, cfg.prompt
    if limit is None:
        return
    added = READOUT_CLASSES[backbone.readout].added
    # A prefix starts from the keys that the backbone computes for as many tokens.
    if prompt.kind == "prefix" and prompt.length > limit:
        why = f"must be at most {limit}, the positions of {backbone.name}"
        raise ConfigError("prompt.length", prompt.length, why)
    virtual = added + (prompt.length if PROMPT_CLASSES[prompt.kind].at_input else 0)
    lengths = {"data.max_length": cfg.data.max_length, "benchmark.seq_len": cfg.benchmark.seq_len}
    for key, length in lengths.items():
        if length + virtual > limit:
            why = f"must be at most {limit - virtual} with prompt.length={prompt.length} "
            why += f"({prompt.kind}) and the {limit} positions of {backbone.name}"
            raise ConfigError(key, length, why)
