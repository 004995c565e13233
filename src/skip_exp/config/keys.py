"""Keys of the configuration: each has a default and a sentence that says what it sets."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints


def key(default: Any, sentence: str) -> Any:
    """A dataclass field with this default: a value, or a function that makes one."""
    metadata = {"sentence": sentence}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


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
    hints, defaults = get_type_hints(kind), kind()
    for each in fields(kind):
        name, sentence = each.name, each.metadata.get("sentence", "")
        one = Key(prefix + name, hints[name], getattr(defaults, name), sentence)
        yield one
        if one.is_group:
            yield from keys(one.kind, f"{one.name}.")
