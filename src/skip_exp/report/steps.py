"""What to do with a finished job: the lines that end its output."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.filesize import decimal


def steps(result: Mapping[str, Any]) -> str:
    """The skill with its size, and commands that use it.

    Args:
        result: a finished one, as `results.load` reads it.
    """
    skill = Path(os.path.relpath(Path(result["path"]).parent / result["skill"]))
    size = sum(file.stat().st_size for file in skill.iterdir())
    texts = (result.get("config") or {}).get("task", {}).get("text", [])
    place, given = shlex.quote(str(skill)), " ".join(['"TEXT"'] * max(1, len(texts)))
    small = shlex.quote(f"{result['task']}-small")
    return "\n".join(
        [
            f"skill:   {skill} ({decimal(size)})",
            f"predict: skip-exp predict {place} {given}",
            f"export:  skip-exp export {place} {small}",
        ]
    )
