"""Files as nobody should find them: flipped, cut, retyped, renamed, swapped."""

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from skip_exp.skill.export.onnx.runtime import checksum

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1e9, -0.5, 0.5, 10**9, 2**31, 2**63, -(2**63), 10**400),
    *(float("nan"), float("inf"), -float("inf"), 1e308, "", "x", "1", "nan", "\ud800", "\x00"),
    *("../../etc/passwd", "/etc/passwd", "os.system", "torch", "a" * 5000, "done", "encoder.0.ffn"),
    *([], {}, [1], ["a", "b"], [[1, 2], [3]], [None], {"x": 1}, {"": {}}, [-1, 2], [2, -1]),
)
PIECES = (b'"', b",", b"\r", b"\n", b"\0", b"[", b"{", b"\xff", b"1e999", b"NaN", b"\\ud83d")


def examples(count: int, drawn: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Run ``check`` on ``count`` examples; SKIP_EXP_HOSTILE_SEED repeats the seed printed."""
    number = int(os.environ.get("SKIP_EXP_HOSTILE_SEED") or random.randrange(2**32))
    print(f"SKIP_EXP_HOSTILE_SEED={number}")

    def test(example: Any) -> None:
        check(example)

    how = settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # one odd value is short enough as it is
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(how(given(drawn)(test)))()


@st.composite
def altered_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with bits flipped, its end or a piece lost, or foreign bytes put in."""
    at = draw(st.integers(0, len(content) - 1))
    how = draw(st.sampled_from(["flip", "flip near the start", "cut", "lose", "insert", "length"]))
    if how.startswith("flip"):
        at = at if how == "flip" else at % min(len(content), 200)
        return (
            content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
        )
    if how == "cut":
        return content[:at]
    if how == "lose":
        return content[:at] + content[at + draw(st.integers(1, 64)) :]
    if how == "length":  # what a safetensors file says that its header is long
        return (
            draw(st.sampled_from([0, 1, 2**20, 2**62, 2**64 - 1])).to_bytes(8, "little")
            + content[8:]
        )
    piece = draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=64))
    return content[:at] + piece * draw(st.sampled_from([1, 1, 3, 2000])) + content[at:]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a JSON document."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = [(*at, key) for key, _ in inside]
    return found + [place for key, item in list(inside) for place in places(item, (*at, key))]


@st.composite
def altered_json(draw: st.DrawFn, document: dict[str, Any], beside: tuple[Any, ...] = ()) -> Any:
    """``document`` with one or two values retyped, gone, renamed, swapped or wrapped."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        every = places(document)
        *at, key = draw(st.sampled_from(every))
        holder = document
        for step in at:
            holder = holder[step]
        how = draw(st.sampled_from(["odd", "odd", "odd", "gone", "renamed", "swapped", "wrapped"]))
        if how == "odd":
            holder[key] = copy.deepcopy(draw(st.sampled_from((*ODD, *beside))))
        elif how == "gone":
            del holder[key]
        elif how == "renamed" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["x", "", "\ud800", "../x", "encoder.0.ffn"]))] = (
                holder.pop(key)
            )
        elif how == "swapped":
            other = draw(
                st.sampled_from(list(holder if isinstance(holder, dict) else range(len(holder))))
            )
            holder[key], holder[other] = holder[other], holder[key]
        else:
            holder[key] = [holder[key]]
    return document


def sign_export(folder: Path) -> None:
    """Make the checksum of an ONNX export right again, so that what was altered is read."""
    described = json.loads((folder / "config.json").read_text())
    if isinstance(described, dict):
        head = {name: described.pop(name) for name in ("version", "sha256") if name in described}
        head |= {"sha256": checksum(folder, described)}
        (folder / "config.json").write_text(json.dumps(head | described))
