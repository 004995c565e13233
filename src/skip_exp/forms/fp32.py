"""The skill by PyTorch, as it was trained."""

from pathlib import Path

from skip_exp.forms.base import Form
from skip_exp.skill.skill import Skill


class Fp32(Form):
    name = "fp32"

    def open(self, folder: Path) -> Skill:
        return Skill.load(folder)
