"""Keys of the configuration, each with a default and a sentence, and checks of their values."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pkgutil import resolve_name
from typing import Any, get_type_hints

from omegaconf import MISSING

from skip_exp.errors import ConfigError, one_line

FITS = ("tune", "retune")  # the phases that train, each with curves of its own
STATES = ("dense", "pruned", "final")  # the model after tune, after prune and after retune
KINDS = ("ffn", "heads")  # of neurons
# Fields of a result that a search may aim at; none is of the reported split, on which nothing is
# chosen. Those of the latency need a timing.
OBJECTIVES = (
    "select/final", "select/pruned",
    "params/block_pruned", "params/all_after", "flops/after", "flops/ratio",
    "latency/speedup", "latency/final_ms",
)  # fmt: skip
# Parts that come with the package; what they do is in `models.prompts`, `models.readouts` (by
# family) and `pruning.allocate`.
PROMPTS = ("input", "prefix", "none")
READOUTS = {
    "bert": ("head", "mlm", "classifier"),
    "roberta": ("head", "mlm", "classifier"),
    "xlm-roberta": ("head", "mlm", "classifier"),
    "modernbert": ("head", "mlm", "classifier"),
    "t5": ("head", "seq2seq", "classifier"),
}
ALLOCATIONS = ("global", "uniform")
# Keys whose value may be a custom part.
PARTS = ("attribution._target_", "prune.allocation")
# Values of the attribution methods' options (`attribution.options`).
OPTIONS: dict[str, tuple[str | int, ...]] = {
    "tokens": ("max", "mean", "sum"),
    "sign": ("signed", "absolute", "text"),
    "target": ("probability", "log_probability", "log_odds"),
    "at": ("neurons", "linears"),
    "norm": (1, 2),
}


def key(default: Any, sentence: str, **allowed: Any) -> Any:
    """A dataclass field with this default: a value, or a function that makes one.

    Args:
        allowed: of a value that is not None: ``bounds=(low, high)`` or ``choices=(...)``. Bounds
            are generous: what is beyond them is a slip of the finger, not a setting.
    """
    metadata = {"sentence": sentence} | allowed
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class Group:
    """A group of keys, a dataclass ``<Name>Config``, that checks its values when it is made."""

    def __post_init__(self) -> None:
        prefix = type(self).__name__.removesuffix("Config").lower()
        for entry in fields(self):  # type: ignore[arg-type]  # subclasses are dataclasses
            name = f"{prefix}.{entry.name}".removeprefix(".")
            value = getattr(self, entry.name)
            # The defaults of the schema itself are yet to be filled or resolved.
            if value is None or str(value).startswith((MISSING, "${")):
                continue
            if "choices" in entry.metadata:
                one_of(name, value, entry.metadata["choices"])
            if "bounds" in entry.metadata:
                low, high = entry.metadata["bounds"]  # NaN is not between them
                require(low <= value <= high, name, value, f"must be in [{low}, {high}]")


@dataclass(frozen=True)
class Key:
    """One key of the schema, or a group of keys.

    Attributes:
        name: dotted, such as ``prune.ratio``.
        kind: its type; a dataclass for a group.
        sentence: what it sets.
    """

    name: str
    kind: Any
    default: Any
    sentence: str

    @property
    def is_group(self) -> bool:
        return is_dataclass(self.kind)


def keys(kind: type, prefix: str = "") -> Iterator[Key]:
    """Every group and key below the dataclass ``kind``, a group before its keys."""
    hints = get_type_hints(kind)
    defaults = kind()
    for entry in fields(kind):
        name = entry.name
        default = getattr(defaults, name)
        one = Key(prefix + name, hints[name], default, entry.metadata["sentence"])
        yield one
        if one.is_group:
            yield from keys(one.kind, f"{one.name}.")


def require(is_so: bool, key: str, value: object, allowed: str) -> None:
    """Raise ConfigError unless ``is_so``."""
    if not is_so:
        raise ConfigError(key, value, allowed)


def one_of(key: str, value: object, choices: tuple[str | int, ...]) -> None:
    """Raise ConfigError where ``value`` is none of the choices."""
    require(value in choices, key, value, f"must be one of {', '.join(map(str, choices))}")


def method_options(**options: object) -> None:
    """Raise ConfigError unless each option of this package's attribution methods is allowed."""
    for name, value in options.items():
        key = f"attribution.options.{name}"
        if name in OPTIONS:
            one_of(key, value, OPTIONS[name])
        if name in ("steps", "micro_batch"):
            is_fine = isinstance(value, int) and value >= 1
            require(is_fine, key, value, "must be a whole number of at least 1")
        if name == "temperature":
            is_fine = isinstance(value, int | float) and 0 < value <= 10**6  # NaN is not
            require(is_fine, key, value, "must be a number above 0, at most 1000000")


def import_part(key: str, name: str) -> Any:
    """The function at the dotted ``name``, which the configuration has under ``key``.

    Raises:
        ConfigError: it is no dotted name, cannot be imported, or is no function.
    """
    require(":" not in name and "." in name, key, name, "must be module.name")
    try:
        part = resolve_name(name)
    except Exception as error:  # whatever a module raises while it is imported
        raise ConfigError(key, name, f"cannot be imported: {one_line(error)}") from error
    require(callable(part), key, name, "must be a function")
    return part
