"""A job's configuration as an object, with checks of values that exclude each other."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from skip_exp.config.checks import PARTS, READOUTS
from skip_exp.config.schema import Config, to_object
from skip_exp.errors import ConfigError
from skip_exp.utils.files import in_full

_NEED_WORDS = ("mlm", "seq2seq")  # readouts that answer with a word


def job_config(composed: Any) -> Config:
    """The composed configuration of a job (DictConfig or mapping), typed and checked.

    Raises:
        ConfigError: a value out of its range, or values that exclude each other.
        omegaconf.errors.OmegaConfBaseException: an unknown key, or a missing value.
    """
    settings = to_object(composed, Config)
    if settings.backbone.readout in _NEED_WORDS and not settings.task.words:
        settings.task.words = list(settings.task.labels)  # the tokenizer may still refuse them
    settings.backbone.path = in_full(settings.backbone.path)
    check_job(settings)
    return settings


def check_given(cfg: Config, overrides: Iterable[str]) -> None:
    """Raise ConfigError where a value of the command would be ignored."""
    given = values_of(overrides)
    for name in ("target_speedup", "within"):
        goal = getattr(cfg.prune, name)
        if goal is not None and "prune.ratio" in given:
            why = f"excludes prune.ratio={given['prune.ratio']}; leave one of them out"
            raise ConfigError(f"prune.{name}", goal, why)
    is_taught = cfg.retune.enabled and cfg.retune.distill > 0
    if given.get("retune.copies", "0") != "0" and not is_taught:
        why = "needs re-tuning with a teacher: retune.enabled=true and retune.distill above 0"
        raise ConfigError("retune.copies", given["retune.copies"], why)


def values_of(overrides: Iterable[str]) -> dict[str, str]:
    """The values as they are written, by key."""
    values: dict[str, str] = {}
    for each in overrides:
        key, _, value = each.lstrip("+").partition("=")
        values[key] = value
    return values


def check_job(cfg: Config) -> None:
    """Raise ConfigError where values of different groups exclude each other."""
    for key, name in (("task.name", cfg.task.name), ("backbone.name", cfg.backbone.name)):
        # It names folders and table rows.
        if not 0 < len(name) <= 100 or not name.isprintable() or "/" in name:
            raise ConfigError(key, ascii(name[:100]), "must be 1 to 100 printable characters, no /")
    for key, part in parts(cfg).items():
        if str(part).startswith("__main__."):  # its source cannot be read, so an edit is not seen
            raise ConfigError(key, part, "must be in a module of its own, not in the script")
    _check_training(cfg)
    if not cfg.task.outcome.is_exclusive:
        _check_several(cfg)
    target = cfg.prune.goal.target_speedup
    if target is not None and cfg.backbone.layers is not None:
        why = f"excludes backbone.layers={cfg.backbone.layers}: results time it against all layers"
        raise ConfigError("prune.target_speedup", target, why)
    if not cfg.benchmark.enabled:
        for name in cfg.sweep.objectives:
            if name.startswith("latency/"):
                why = "is timed by the benchmark: needs benchmark.enabled=true"
                raise ConfigError("sweep.objective", name, why)


def parts(cfg: Config) -> dict[str, str | None]:
    """What may be a custom part, by key."""
    return {key: attrgetter(key)(cfg) for key in PARTS}


def _check_training(cfg: Config) -> None:
    if cfg.tune.train == "bias" and (cfg.prune.goal.ratio != 0 or cfg.retune.enabled):
        why = "a baseline of its own size: needs prune.ratio=0 retune.enabled=false"
        raise ConfigError("tune.train", "bias", why)
    if not cfg.tune.epochs and cfg.tune.start in (None, cfg.task.start):
        raise ConfigError("tune.epochs", 0, "must be at least 1, unless tune.start names a skill")
    trained = {cfg.tune.train}
    if cfg.retune.enabled:
        _check_retune(cfg)
        trained.add(cfg.retune.train)
    if cfg.prompt.kind == "none" and "prompt" in (cfg.tune.train, cfg.retune.train):
        raise ConfigError("prompt.kind", "none", "leaves nothing to train with train=prompt")
    bare = cfg.prompt.kind == "none" and cfg.backbone.readout in _NEED_WORDS
    if cfg.tune.train == "none" and cfg.backbone.readout == "head":
        why = "leaves an untrained head; use backbone.readout=classifier"
        raise ConfigError("tune.train", "none", why)
    if bare and trained & {"prompt", "prompt_readout"}:  # a readout that has no weights either
        why = f"leaves nothing to train with backbone.readout={cfg.backbone.readout}"
        raise ConfigError("prompt.kind", "none", why)
    no_prefix = cfg.prompt.kind in ("none", "input")
    has_decoder = "seq2seq" in READOUTS[cfg.backbone.family]
    if cfg.prompt.decoder and (no_prefix or not has_decoder or cfg.backbone.readout == "head"):
        raise ConfigError("prompt.decoder", True, "needs a prefix, and a decoder that answers")


def _check_several(cfg: Config) -> None:
    """Refuse what knows one label per text only."""
    if cfg.backbone.readout in _NEED_WORDS:
        why = "answers with one word: head or classifier, where task.multilabel=true"
        raise ConfigError("backbone.readout", cfg.backbone.readout, why)
    if cfg.attribution.name == "skill_neuron":
        why = "separates classes: must be another method where task.multilabel=true"
        raise ConfigError("attribution", cfg.attribution.name, why)
    if cfg.prune.within is not None:
        why = "not where task.multilabel=true; give prune.ratio"
        raise ConfigError("prune.within", cfg.prune.within, why)


def _check_retune(cfg: Config) -> None:
    """Re-tuning trains something, and goes on with whatever tuning trained of the backbone."""
    tune, retune = cfg.tune, cfg.retune
    if retune.train == "none":
        why = "leaves nothing to train; set what re-tuning trains, or retune.enabled=false"
        raise ConfigError("retune.train", "none", why)
    if tune.train in ("lora", "layers", "full") and retune.train != tune.train:
        why = f"must be {tune.train}, as in tune; or retune.enabled=false"
        raise ConfigError("retune.train", retune.train, why)
    if tune.train == "lora" and retune.rank != tune.rank:
        raise ConfigError("retune.rank", retune.rank, f"must be {tune.rank}, as in tune")
