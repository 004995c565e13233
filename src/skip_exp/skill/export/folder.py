"""A skill as a folder that appears whole or not at all, in one of the formats."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from skip_exp.errors import SkipError
from skip_exp.skill.export.huggingface.folder import CARD, write_folder
from skip_exp.skill.export.onnx.write import write_onnx
from skip_exp.skill.load import Skill

FORMATS = ("hf", "onnx")


def export(
    skill: Skill, out: Path, format: str, *, int8: bool = False, repo_id: str | None = None
) -> int:
    """Write ``skill`` as a stand-alone folder that appears whole or not at all; its bytes.

    Args:
        int8: of onnx: weights of 8 bits.
        repo_id: of hf: where it will be on the hub.

    Raises:
        SkipError: ``out`` is not empty or cannot be written; for onnx, a package is missing or the
            check failed; for hf, a prompt or readout of somebody's own.
    """
    _check_out(out)
    skill.check_fp32(str(out))
    skill = replace(skill, about=skill.about.to_share())
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        if format == "hf":
            parts = (skill.about, skill.model, skill.tokenizer, skill.folder)
            write_folder(temporary, *parts, repo_id)
        else:
            write_onnx(skill, temporary, int8=int8)
            _write_readme(temporary, skill, int8)
        os.replace(temporary, out)
    except OSError as error:
        raise SkipError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sum(file.stat().st_size for file in out.iterdir())


def _write_readme(folder: Path, skill: Skill, int8: bool) -> None:
    # With the results and the configuration, which a skill that only answers does not need.
    from skip_exp.skill.export.onnx.readme import readme

    (folder / CARD).write_text(readme(skill, int8=int8), encoding="utf-8")


def _check_out(out: Path) -> None:
    if not out.name:
        raise SkipError(f"{out}: give the export a folder of its own, which it makes")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")
