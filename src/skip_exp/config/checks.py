"""What a config group checks of its own values."""

import re
from collections.abc import Mapping

from omegaconf import MISSING

from skip_exp.config.names import OPTIONS, TRAINER_EXTRA
from skip_exp.errors import ConfigError


def one_of(key: str, value: object, choices: tuple[str | int, ...]) -> None:
    """Raise ConfigError where ``value`` is none of the choices."""
    if value not in choices:
        raise ConfigError(key, value, f"must be one of {', '.join(map(str, choices))}")


def separator(key: str, value: str | None) -> None:
    """Raise ConfigError where ``value`` cannot stand between the columns of a file."""
    if value is not None and value != "\\t" and (len(value) != 1 or value in '"\r\n\0'):
        raise ConfigError(key, value, "must be one character, such as ';', or \\t for a tab")


def text_encoding(key: str, name: str) -> None:
    """Raise ConfigError where Python knows no such encoding of texts."""
    try:
        "a".encode(name)
    except (LookupError, ValueError) as error:
        allowed = "must be an encoding of Python's, such as utf-8, latin-1 or cp1252"
        raise ConfigError(key, name, allowed) from error


def project(key: str, name: str) -> None:
    """Raise ConfigError where W&B would not take the name of a project."""
    if not 0 < len(name) <= 128 or set(name) & set("/\\#?%:"):
        why = "must be 1 to 128 characters, none of /\\#?%:; a team is logger.entity"
        raise ConfigError(key, name, why)


def positive(prefix: str, settings: object, **most: float) -> None:
    """Raise ConfigError where a field is not above zero, or beyond its ``most``.

    The bounds are generous: what is beyond them is a slip of the finger, not a setting.
    """
    for name, bound in most.items():
        if not 0 < (value := getattr(settings, name)) <= bound:  # NaN is neither
            raise ConfigError(f"{prefix}.{name}", value, f"must be positive, at most {bound}")


def within(prefix: str, settings: object, **ends: tuple[float, float]) -> None:
    """Raise ConfigError where a field is not between its two ends, or one of them."""
    for name, (low, high) in ends.items():
        if not low <= (value := getattr(settings, name)) <= high:
            key = f"{prefix}.{name}" if prefix else name
            raise ConfigError(key, value, f"must be in [{low}, {high}]")


def unset(settings: object) -> bool:
    """Whether this is the schema itself, whose fields are yet to be filled or resolved."""
    values = [value for value in vars(settings).values() if isinstance(value, str)]
    return any(value == MISSING or value.startswith("${") for value in values)


def method_options(**options: object) -> None:
    """Raise ConfigError unless each option of this package's attribution methods is allowed."""
    for name, value in options.items():
        key = f"attribution.options.{name}"
        if name in OPTIONS:
            one_of(key, value, OPTIONS[name])
        if name in ("steps", "micro_batch") and (not isinstance(value, int) or value < 1):
            raise ConfigError(key, value, "must be a whole number of at least 1")
        if name == "temperature" and not (
            isinstance(value, int | float) and 0 < value <= 10**6  # NaN is not
        ):
            raise ConfigError(key, value, "must be a number above 0, at most 1000000")


# What to use instead of arguments that a fit sets by itself, or that it cannot be given.
_INSTEAD = {
    "max_epochs": "tune.epochs and retune.epochs set it",
    "max_steps": "tune.epochs and limit_train_batches set it",
    "overfit_batches": "data.train_rows sets it, see debug=overfit",
    "limit_val_batches": "the selection slice is scored whole",
    "num_nodes": "a job runs on one machine; hydra/launcher=submitit_slurm runs each on its own",
    "logger": "the group logger sets it",
    "devices": "a job runs on one device; with a launcher the jobs of a sweep use several",
    "accelerator": "trainer.accelerator sets it",
    "precision": "trainer.precision sets it",
}


def trainer_extra(extra: Mapping[str, object]) -> None:
    """Raise ConfigError unless Lightning's Trainer may be given these arguments in a fit."""
    for name, value in extra.items():
        key = f"trainer.extra.{name}"
        if name not in TRAINER_EXTRA:
            why = _INSTEAD.get(name, "a fit sets it, or cannot use it")
            raise ConfigError(key, value, f"{why}; must be one of {', '.join(TRAINER_EXTRA)}")
        is_count = type(value) is int and 1 <= value < 10**9
        is_fraction = isinstance(value, float) and 0 < value < 1
        if name == "limit_train_batches" and not (is_count or is_fraction):
            raise ConfigError(key, value, "must be a number of batches, or a fraction below 1")
        if name == "accumulate_grad_batches" and not is_count:
            raise ConfigError(key, value, "must be a whole number of at least 1")
        if name == "max_time" and not re.fullmatch(r"(?=.*[1-9])\d\d(:\d\d){3}", str(value)):
            raise ConfigError(key, value, "must be DD:HH:MM:SS, such as 00:02:30:00")
        if name == "detect_anomaly":
            one_of(key, value, (True, False))
        if name == "profiler":
            one_of(key, value, ("simple", "advanced"))
