"""Export a skill as a folder that appears whole or not at all."""

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from skip_exp import results
from skip_exp.errors import SkipError, first_line
from skip_exp.skill.export.card import CARD, model_card
from skip_exp.skill.export.huggingface.convert import write_huggingface
from skip_exp.skill.export.onnx.write import write_onnx
from skip_exp.skill.files import read_skill, write_skill
from skip_exp.skill.record import RECORD, TENSORS
from skip_exp.skill.served import Served

FORMATS = ("hf", "onnx")


def export(
    skill: Served, out: Path, format: str, *, int8: bool = False, repo_id: str | None = None
) -> int:
    """Write ``skill`` as a folder that appears whole or not at all; return its size in bytes.

    Args:
        int8: onnx only: round weights to 8 bits.
        repo_id: hf only: future address on the hub.

    Raises:
        SkipError: ``out`` is not empty or cannot be written; for onnx, a package is missing or the
            check failed; for hf, the prompt or readout is custom.
    """
    if format not in FORMATS:
        raise SkipError(f"format={format}: must be one of {', '.join(FORMATS)}")
    if int8 and format != "onnx":
        raise SkipError(f"int8: not for format={format}, only for onnx")
    skill.check_fp32(str(out))
    skill.check_files(str(out))
    skill = replace(skill, about=skill.about.to_share())
    with new_folder(out) as temporary:
        if format == "hf":
            write_huggingface(temporary, skill.about, skill.model, skill.tokenizer)
            _write_skill(skill, temporary)
        else:
            write_onnx(skill, temporary, int8=int8)
        parts = (skill.about, skill.model, skill.tokenizer, skill.folder)
        card = model_card(*parts, repo_id=repo_id, onnx=format == "onnx", int8=int8)
        card.save(temporary / CARD)
    return sum(file.stat().st_size for file in out.iterdir())


def _write_skill(skill: Served, out: Path) -> None:
    """Copy the skill's own files, about 1 MB, so that ``Skill.load`` also reads an export.

    They are left out if every weight was trained, because they would be as large as the model, and
    if the vocabulary was cut, because the skill answers by all of it.
    """
    about, source = skill.about, skill.folder
    is_whole = about.train != "full" and not hasattr(skill.model.backbone.config, "vocabulary")
    if source is not None and is_whole:
        record, tensors = read_skill(source)
        write_skill(out, tensors, record.to_share().stored())


def save(skill: Served, out: Path) -> Path:
    """Copy a skill's files and its job's result into ``out``. Raises SkipError."""
    source = skill.folder
    if source is None:
        raise SkipError(f"{out}: the skill was not read from a folder")
    skill.check_files(str(out))
    with new_folder(out) as temporary:
        for name in (RECORD, TENSORS):
            shutil.copyfile(source / name, temporary / name)
        if result := {key: value for key, value in skill.result.items() if key != "path"}:
            (temporary / results.FILE).write_text(json.dumps(result | {"skill": "."}, indent=1))
    return out


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``out`` at the end of the block. Raises SkipError."""
    check_out(out)
    out = out.resolve()  # the folder that a link names
    # Containers share folders, and numbers of processes.
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, out)
    except Exception as error:
        # safetensors and tokenizers have exceptions of their own for a full disk.
        is_full = re.search(rf"\(os error ({errno.ENOSPC}|{errno.EDQUOT})\)", str(error))
        if isinstance(error, SkipError) or not (isinstance(error, OSError) or is_full):
            raise
        why = getattr(error, "strerror", None) or first_line(error)
        raise SkipError(f"{out}: cannot be written: {why}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_out(out: Path) -> None:
    """Raise SkipError unless ``out`` is a new or empty folder."""
    if not out.name:
        raise SkipError(f"{out}: not the name of a new folder")
    if os.path.ismount(out.resolve()):  # the folder is written beside `out`, then gets its name
        raise SkipError(f"{out}: is a mount point: give a new folder in it")
    # Not Path.exists, which raises where it may not look.
    if os.path.exists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise SkipError(f"{out}: exists and is not an empty folder")
    above = next(folder for folder in out.resolve().parents if os.path.exists(folder))
    if not os.access(above, os.W_OK):
        raise SkipError(f"{out}: cannot be written: no permission in {above}")
