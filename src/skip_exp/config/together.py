"""A job's configuration as an object, with checks of values that exclude each other."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from skip_exp.config.checks import PARTS, require
from skip_exp.config.schema import Config, to_object
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
        goal, ratio = getattr(cfg.prune, name), given.get("prune.ratio")
        why = f"excludes prune.ratio={ratio}; leave one of them out"
        require(goal is None or ratio is None, f"prune.{name}", goal, why)
    copies = given.get("retune.copies", "0")
    is_taught = cfg.retune.enabled and cfg.retune.distill > 0
    why = "needs re-tuning with a teacher: retune.enabled=true and retune.distill above 0"
    require(copies == "0" or is_taught, "retune.copies", copies, why)


def values_of(overrides: Iterable[str]) -> dict[str, str]:
    """The values as they are written, by key."""
    pairs = (each.lstrip("+").partition("=") for each in overrides)
    return {key: value for key, _, value in pairs}


def parts(cfg: Config) -> dict[str, str | None]:
    """What may be a custom part, by key."""
    return {key: attrgetter(key)(cfg) for key in PARTS}


def check_job(cfg: Config) -> None:
    """Raise ConfigError where values of different groups exclude each other."""
    for key, name in (("task.name", cfg.task.name), ("backbone.name", cfg.backbone.name)):
        # It names folders and table rows.
        is_fine = 0 < len(name) <= 100 and name.isprintable() and "/" not in name
        require(is_fine, key, ascii(name[:100]), "must be 1 to 100 printable characters, no /")
    for key, part in parts(cfg).items():  # of the script the source cannot be read
        is_module = not str(part).startswith("__main__.")
        require(is_module, key, part, "must be in a module of its own, not in the script")
    _check_training(cfg)
    _check_prompt(cfg)
    if not cfg.task.outcome.is_exclusive:
        _check_several(cfg)
    layers, target = cfg.backbone.layers, cfg.prune.target_speedup
    why = f"excludes backbone.layers={layers}: results time it against all layers"
    require(layers is None or target is None, "prune.target_speedup", target, why)
    for name in cfg.sweep.objectives:
        is_timed = cfg.benchmark.enabled or not name.startswith("latency/")
        why = "is timed by the benchmark: needs benchmark.enabled=true"
        require(is_timed, "sweep.objective", name, why)


def _check_training(cfg: Config) -> None:
    """What is trained exists, and re-tuning goes on with what tuning trained of the backbone."""
    tune, retune = cfg.tune, cfg.retune
    is_baseline = cfg.prune.given_ratio == 0 and not retune.enabled
    why = "a baseline of its own size: needs prune.ratio=0 retune.enabled=false"
    require(tune.train != "bias" or is_baseline, "tune.train", "bias", why)
    has_start = tune.start not in (None, cfg.task.start)
    why = "must be at least 1, unless tune.start names a skill"
    require(tune.epochs > 0 or has_start, "tune.epochs", 0, why)
    is_untrained = tune.train == "none" and cfg.backbone.readout == "head"
    why = "leaves an untrained head; use backbone.readout=classifier"
    require(not is_untrained, "tune.train", "none", why)
    if retune.enabled:
        why = "leaves nothing to train; set what re-tuning trains, or retune.enabled=false"
        require(retune.train != "none", "retune.train", "none", why)
        goes_on = tune.train not in ("lora", "layers", "full") or retune.train == tune.train
        why = f"must be {tune.train}, as in tune; or retune.enabled=false"
        require(goes_on, "retune.train", retune.train, why)
        is_fine = tune.train != "lora" or retune.rank == tune.rank
        require(is_fine, "retune.rank", retune.rank, f"must be {tune.rank}, as in tune")


def _check_prompt(cfg: Config) -> None:
    kind, readout = cfg.prompt.kind, cfg.backbone.readout
    trained = {cfg.tune.train, cfg.retune.train if cfg.retune.enabled else cfg.tune.train}
    if kind == "none":
        is_left = "prompt" not in (cfg.tune.train, cfg.retune.train)
        require(is_left, "prompt.kind", kind, "leaves nothing to train with train=prompt")
        is_left = readout not in _NEED_WORDS or "prompt_readout" not in trained
        why = f"leaves nothing to train with backbone.readout={readout}"
        require(is_left, "prompt.kind", kind, why)


def _check_several(cfg: Config) -> None:
    """Refuse what knows one label per text only."""
    readout, method = cfg.backbone.readout, cfg.attribution.name
    why = "answers with one word: head or classifier, where task.kind=many_labels"
    require(readout not in _NEED_WORDS, "backbone.readout", readout, why)
    why = "separates classes: must be another method where task.kind=many_labels"
    require(method != "skill_neuron", "attribution", method, why)
    why = "not where task.kind=many_labels; give prune.ratio"
    require(cfg.prune.within is None, "prune.within", cfg.prune.within, why)
