"""What a job decides by its train rows and its start: what tuning trains, and its prompt.

A job's identity is known before its rows are read, so :data:`RULES` is a part of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from skip_exp.config.prune import AUTO
from skip_exp.config.schema import Config
from skip_exp.config.train import UPDATED, TrainConfig

T = TypeVar("T", bound=TrainConfig)

MANY = 1000  # train rows from which on low-rank updates pay in tune
USUAL: dict[str, dict[str, Any]] = {
    "tune": {"train": "lora", "dropout": True},
    "retune": {"copies": 4, "budget": 2.0},
}
FEW: dict[str, dict[str, Any]] = {  # the settings of experiment=prompt
    "tune": {"train": "prompt_readout", "dropout": False},
    "retune": {"lr": 1e-2, "bias_lr": 3e-3, "copies": 0, "budget": 1.2},
}
LONG, SHORT = 16, 4  # prompt tokens: of a prompt alone, and beside updated weights
ALONE, BESIDE = "vocab", "silent"  # what they start from
RULES = (MANY, FEW, LONG, SHORT, ALONE, BESIDE)

_PROMPT = ("prompt.length", "prompt.init")
_FEW, _USUAL = (
    tuple(f"{group}.{key}" for group in settings for key in settings[group])
    for settings in (FEW, USUAL)
)
FOLLOWS: dict[str, tuple[str, ...]] = {  # what jobs may decide by a key
    **dict.fromkeys(("tune", "tune.train", "tune.start", "data.train_rows"), (*_PROMPT, *_FEW)),
    **dict.fromkeys(("prompt", "prompt.kind"), (*_PROMPT, *_FEW)),
    "backbone": (*_PROMPT, *_FEW, "task.words"),
    "backbone.readout": ("task.words",),
}
MAY_BE = {  # by key of FEW the texts of both values that a job may decide
    f"{group}.{key}": {str(few), str(USUAL[group].get(key))}
    for group, settings in FEW.items()
    for key, few in settings.items()
}
DECIDED = {*_PROMPT, *_FEW}  # whatever by


def undecided(flat: Mapping[str, str]) -> list[str]:
    """Of settings as text, dotted key to value, the keys that their job would have decided.

    Only a job that failed before it had its rows leaves any.
    """
    keys = _FEW if flat.get("tune.train") == AUTO else _USUAL
    return [key for key in (*_PROMPT, *keys) if flat.get(key) in (str(None), AUTO)]


def decided(cfg: Config, rows: int, start: int | None) -> Config:
    """The configuration with ``tune.train=auto`` and all that depends on it decided.

    On a few hundred rows low-rank updates overfit, and the pruned model learns from that teacher.
    There everything in FEW that is not given gets another value. Beside low-rank updates a long
    prompt that starts from real tokens costs accuracy, most on short texts.

    Args:
        rows: of train.
        start: prompt tokens of the skill that tuning starts from; None: a new start.
    """
    is_open = cfg.tune.train == AUTO and start is None and cfg.prompt.kind != "none"
    settings = FEW if is_open and rows < MANY else USUAL
    tune, retune = _filled(cfg.tune, settings["tune"]), _filled(cfg.retune, settings["retune"])
    cfg = replace(cfg, tune=tune, retune=retune)
    length, init = (SHORT, BESIDE) if cfg.tune.train in UPDATED else (LONG, ALONE)
    length = length if start is None else start
    prompt = cfg.prompt
    prompt = replace(prompt, length=prompt.length or length, init=prompt.init or init)
    return replace(cfg, prompt=prompt)


def _filled(given: T, settings: Mapping[str, Any]) -> T:
    """``given`` with each of ``settings`` that it leaves open."""
    return replace(
        given, **{k: v for k, v in settings.items() if getattr(given, k) in (None, AUTO)}
    )
