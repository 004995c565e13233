"""An export with 8-bit weights by ONNX Runtime."""

import logging
from pathlib import Path

import torch

from skip_exp.errors import SkipError
from skip_exp.forms.base import Form
from skip_exp.skill.export.onnx.runtime import OnnxSkill, check_packages
from skip_exp.skill.skill import Skill

log = logging.getLogger(__name__)


class Int8(Form):
    name = "int8"

    def available(self) -> bool:
        try:
            check_packages("onnx", "onnxruntime", "onnxscript")
        except SkipError as error:
            log.info("left out: 8-bit weights (%s)", error)
            return False
        return True

    def save(self, skill: Skill, folder: Path) -> Path:
        if not folder.is_dir():
            skill.export(folder, "onnx", int8=True, is_judged=True)
        return folder

    def open(self, folder: Path) -> OnnxSkill:
        return OnnxSkill.load(folder, torch.get_num_threads())
