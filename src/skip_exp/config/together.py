"""A job's configuration as an object, with checks of values that exclude each other."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from skip_exp.config.checks import PARTS, require
from skip_exp.config.groups import OWN_WEIGHTS
from skip_exp.config.schema import Config, list_objectives, to_object
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
    values = values_of(overrides)
    ratio = values.get("prune.ratio")
    copies = values.get("retune.copies", "0")
    within = cfg.prune.within
    require(
        within is None or ratio is None,
        "prune.within",
        within,
        f"excludes prune.ratio={ratio}; leave one of them out",
    )
    require(
        copies == "0" or (cfg.retune.enabled and cfg.retune.distill > 0),
        "retune.copies",
        copies,
        "needs re-tuning with a teacher: retune.enabled=true and retune.distill above 0",
    )


def values_of(overrides: Iterable[str]) -> dict[str, str]:
    """The values as they are written, by key."""
    values: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        values[key] = value
    return values


def parts(cfg: Config) -> dict[str, str | None]:
    """What may be a custom part, by key."""
    return {key: attrgetter(key)(cfg) for key in PARTS}


def check_job(cfg: Config) -> None:
    """Raise ConfigError where values of different groups exclude each other."""
    for key, name in (("task.name", cfg.task.name), ("backbone.name", cfg.backbone.name)):
        require(  # it names folders and table rows
            0 < len(name) <= 100 and name.isprintable() and "/" not in name,
            key,
            ascii(name[:100]),
            "must be 1 to 100 printable characters, no /",
        )
    for key, part in parts(cfg).items():
        require(  # of the script the source cannot be read
            not str(part).startswith("__main__."),
            key,
            part,
            "must be in a module of its own, not in the script",
        )
    _check_training(cfg)
    _check_prompt(cfg)
    if not cfg.task.outcome.is_exclusive:
        _check_several(cfg)
    for name in list_objectives(cfg.sweep.objective):
        require(
            cfg.benchmark.enabled or not name.startswith("latency/"),
            "sweep.objective",
            name,
            "is timed by the benchmark: needs benchmark.enabled=true",
        )


def _check_training(cfg: Config) -> None:
    """What is trained exists, and re-tuning goes on with what tuning trained of the backbone."""
    tune = cfg.tune
    retune = cfg.retune
    require(
        tune.epochs > 0 or tune.start not in (None, cfg.task.start),
        "tune.epochs",
        0,
        "must be at least 1, unless tune.start names a skill",
    )
    require(
        tune.train != "none" or cfg.backbone.readout != "head",
        "tune.train",
        "none",
        "leaves an untrained head; use backbone.readout=classifier",
    )
    if not retune.enabled:
        return
    require(
        retune.train != "none",
        "retune.train",
        "none",
        "leaves nothing to train; set what re-tuning trains, or retune.enabled=false",
    )
    require(
        tune.train not in OWN_WEIGHTS or retune.train == tune.train,
        "retune.train",
        retune.train,
        f"must be {tune.train}, as in tune; or retune.enabled=false",
    )
    is_fine = tune.train != "lora" or retune.rank == tune.rank
    require(is_fine, "retune.rank", retune.rank, f"must be {tune.rank}, as in tune")


def _check_prompt(cfg: Config) -> None:
    """Without a prompt something else is trained."""
    if cfg.prompt.kind != "none":
        return
    readout = cfg.backbone.readout
    trained = {cfg.tune.train, cfg.retune.train if cfg.retune.enabled else cfg.tune.train}
    require(
        "prompt" not in (cfg.tune.train, cfg.retune.train),
        "prompt.kind",
        "none",
        "leaves nothing to train with train=prompt",
    )
    require(
        readout not in _NEED_WORDS or "prompt_readout" not in trained,
        "prompt.kind",
        "none",
        f"leaves nothing to train with backbone.readout={readout}",
    )


def _check_several(cfg: Config) -> None:
    """Refuse what knows one label per text only."""
    require(
        cfg.backbone.readout not in _NEED_WORDS,
        "backbone.readout",
        cfg.backbone.readout,
        "answers with one word: head or classifier, where task.kind=many_labels",
    )
    require(
        cfg.prune.within is None,
        "prune.within",
        cfg.prune.within,
        "not where task.kind=many_labels; give prune.ratio",
    )
