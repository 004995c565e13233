"""Where a skill is, and what it says of itself, before anything that it needs is loaded.

Imports no torch: a command that is refused ends at once.
"""

import os
from pathlib import Path

from skip_exp import results
from skip_exp.errors import SkipError
from skip_exp.skill.record import (
    CODE,
    CONFIG,
    ONNX,
    RECORD,
    SkillRecord,
    parse_record,
    read_json,
)


def skill_of(folder: Path) -> Path:
    """The skill of a job's folder. Else ``folder`` itself."""
    skill = (results.read_finished(folder) or {}).get("skill")
    is_job = isinstance(skill, str) and not os.path.isfile(folder / RECORD)
    return folder / str(skill) if is_job else folder


def find_skill(folder: str | Path) -> Path:
    """The full path of the skill in ``folder``, or in a job's folder.

    Raises:
        SkipError: an export that another class reads.
    """
    place = skill_of(Path(folder).expanduser().absolute())
    if not os.path.isfile(place / RECORD):  # no error where it may not look
        if os.path.isfile(place / CODE):
            raise SkipError(
                f"{place}: an hf export without the skill's own files; "
                "AutoModelForSequenceClassification.from_pretrained loads it"
            )
        if os.path.isfile(place / ONNX):
            raise SkipError(f"{place}: an ONNX export; skip_exp.OnnxSkill.load reads it")
    return place


def read_about(folder: Path) -> SkillRecord:
    """The record of a skill or an ONNX export; loading it verifies the checksum.

    Raises:
        SkipError: there is none, or it is damaged.
    """
    is_onnx = os.path.isfile(folder / ONNX)
    path = folder / CONFIG if is_onnx else find_skill(folder) / RECORD
    described = read_json(path)
    known = {name: described[name] for name in SkillRecord.model_fields if name in described}
    return parse_record(path, known, SkillRecord)
