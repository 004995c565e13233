"""Export a skill as a folder that appears whole or not at all."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from skip_exp.errors import SkipError
from skip_exp.skill.export.card import CARD, model_card
from skip_exp.skill.export.huggingface.folder import write_folder
from skip_exp.skill.export.onnx.write import write_onnx
from skip_exp.skill.load import Skill

FORMATS = ("hf", "onnx")


def export(
    skill: Skill, out: Path, format: str, *, int8: bool = False, repo_id: str | None = None
) -> int:
    """Write ``skill`` as a folder that appears whole or not at all; return its size in bytes.

    Args:
        int8: onnx only: round weights to 8 bits.
        repo_id: hf only: future address on the hub.

    Raises:
        SkipError: ``out`` is not empty or cannot be written; for onnx, a package is missing or the
            check failed; for hf, the prompt or readout is custom.
    """
    _check_out(out)
    skill.check_fp32(str(out))
    skill = replace(skill, about=skill.about.to_share())
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        parts = (skill.about, skill.model, skill.tokenizer, skill.folder)
        if format == "hf":
            write_folder(temporary, *parts, repo_id)
        else:
            write_onnx(skill, temporary, int8=int8)
            model_card(*parts, onnx=True, int8=int8).save(temporary / CARD)
        os.replace(temporary, out)
    except OSError as error:
        raise SkipError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(file.stat().st_size for file in out.iterdir())


def _check_out(out: Path) -> None:
    if not out.name:
        raise SkipError(f"{out}: not the name of a new folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")
