"""Whether what a file holds is of the type that its reader declares."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from reprlib import repr as shown
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

LARGEST = {int: 2**53, float: sys.float_info.max}  # what a float holds, exactly or at all
NAMES: dict[Any, str] = {
    **{str: "text", int: "a whole number", float: "a number", bool: "true or false"},
    **{NoneType: "null", list: "a list", Sequence: "a list"},
}


def mismatch(value: object, kind: Any, name: str) -> str | None:
    """Why ``value``, read from JSON, is not of the type ``kind``; None where it is.

    Args:
        kind: of str, int, float, bool, None, Any, Literal, unions, lists, mappings from text, and
            typed dictionaries, of which the keys that are there and known are looked at.
        name: of the value, for the message; ``""`` for the whole of a file.
    """
    origin = get_origin(kind) or kind
    if kind is Any:
        return None
    if origin in (Union, UnionType):
        problems = [mismatch(value, part, name) for part in get_args(kind)]
        return None if None in problems else problems[0]
    if origin is Literal:
        choices = get_args(kind)
        allowed = f"must be one of {', '.join(choices)}, not {shown(value)}"
        return None if value in choices else f"{name} {allowed}"
    if not _is(value, origin):
        return f"{name} must be {NAMES.get(origin, 'an object')}, not {shown(value)}"
    parts = (
        mismatch(item, part, f"{name}.{key}" if name else key)
        for key, item, part in _inside(value, kind)
    )
    return next((problem for problem in parts if problem), None)


def _is(value: object, origin: Any) -> bool:
    if is_typeddict(origin):
        return isinstance(value, Mapping)
    if origin in LARGEST:
        of = int if origin is int else int | float
        # false for NaN, too
        return type(value) is not bool and isinstance(value, of) and abs(value) <= LARGEST[origin]
    return isinstance(value, origin)


_types = cache(get_type_hints)  # a page of results asks for the same few a thousand times


def _inside(value: Any, kind: Any) -> Iterator[tuple[str, object, Any]]:
    """What is in a container, with its name and its type."""
    if is_typeddict(kind):
        parts = _types(kind)
        yield from ((key, value[key], parts[key]) for key in value if key in parts)
    elif isinstance(value, Mapping):
        yield from ((key, item, part) for key, item in value.items() for part in get_args(kind)[1:])
    elif isinstance(value, list):
        yield from ((str(i), item, part) for i, item in enumerate(value) for part in get_args(kind))
