"""What to do with a finished job: the lines that end its output."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from skip_exp.config.named import importing


def steps(result: Mapping[str, Any]) -> str:
    """The skill with its size, and commands that use it.

    Args:
        result: a finished one, as `results.load` reads it.
    """
    skill = Path(os.path.relpath(Path(result["path"]).parent / result["skill"]))
    size = sum(file.stat().st_size for file in skill.iterdir())
    texts = (result.get("config") or {}).get("task", {}).get("text", [])
    tool, form = _tool(result)
    place, given = shlex.quote(str(skill)), " ".join(['"TEXT"'] * max(1, len(texts)))
    small = shlex.quote(f"{result['task']}-small")
    return "\n".join(
        [
            f"skill:   {skill} ({decimal(size)})",
            f"predict: {tool} predict {place} {given}",
            f"export:  {tool} export {place} {small}{form}",
        ]
    )


def _tool(result: Mapping[str, Any]) -> tuple[str, str]:
    """How to call the commands for this skill, and the format of its export."""
    names = [result["prompt"].get("kind") or "", result["readout"] or ""]
    modules = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
    return (importing(*modules), " --format onnx") if modules else ("skip-exp", "")
