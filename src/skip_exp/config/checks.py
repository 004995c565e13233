"""What a config group checks of its own values."""

from omegaconf import MISSING

from skip_exp.errors import ConfigError


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ConfigError where ``value`` is none of the choices."""
    if value not in choices:
        raise ConfigError(key, value, f"must be one of {', '.join(choices)}")


def positive(prefix: str, settings: object, *names: str) -> None:
    """Raise ConfigError where a field is not above zero."""
    for name in names:
        if getattr(settings, name) <= 0:
            raise ConfigError(f"{prefix}.{name}", getattr(settings, name), "must be positive")


def unset(settings: object) -> bool:
    """Whether this is the schema itself, whose mandatory fields are yet to be filled."""
    return any(isinstance(value, str) and value == MISSING for value in vars(settings).values())


def is_number(value: object) -> bool:
    """A number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
