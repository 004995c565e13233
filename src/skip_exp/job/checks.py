"""Refusals that need the backbone: what its positions, readout and neurons do not allow."""

from skip_exp.config.schema import Config
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.backbones import Backbone
from skip_exp.models.prompts import prompt_class
from skip_exp.models.readouts import readout_class
from skip_exp.pruning import allocate


def check(cfg: Config, backbone: Backbone) -> None:
    """Refuse what ``backbone`` cannot do, before any work. Raises SkipError."""
    _length(cfg, backbone)
    _readout(cfg, backbone)
    _goal(cfg, backbone)


def _length(cfg: Config, backbone: Backbone) -> None:
    limit = backbone.max_positions
    virtual = cfg.prompt.length if prompt_class(cfg.prompt.kind).at_input else 0
    virtual += readout_class(backbone.readout).added
    # It starts from the keys and values that the backbone computes for as many tokens.
    if cfg.prompt.kind == "prefix" and limit is not None and cfg.prompt.length > limit:
        why = f"must be at most {limit}, the positions of {backbone.name}"
        raise ConfigError("prompt.length", cfg.prompt.length, why)
    lengths = {"data.max_length": cfg.data.max_length, "benchmark.seq_len": cfg.benchmark.seq_len}
    for key, length in lengths.items():
        if limit is None or length + virtual <= limit:
            continue
        raise ConfigError(
            key,
            length,
            f"with prompt.length={cfg.prompt.length} ({cfg.prompt.kind}) it exceeds the "
            f"{limit} positions of {backbone.name}; at most {limit - virtual}",
        )


def _readout(cfg: Config, backbone: Backbone) -> None:
    """What it refuses: label words."""
    labels, words = cfg.task.num_labels, tuple(cfg.task.words)
    pooling = cfg.backbone.pooling
    readout = readout_class(backbone.readout)
    readout.build(backbone.model, backbone.tokenizer, labels, words, pooling)


def _goal(cfg: Config, backbone: Backbone) -> None:
    """What the backbone's neurons can give; a speed-up is known once the sublayers are timed."""
    blocks = backbone.family.blocks(backbone.model)
    if not blocks:
        raise SkipError(f"backbone={backbone.name}: has no layers")
    prune = cfg.prune
    ratio = 0.0 if prune.goal.ratio is None else prune.goal.ratio
    allocate.check(
        [block.shape() for block in blocks],
        ratio=ratio,
        sites=prune.sites,
        allocation=prune.allocation,
    )
