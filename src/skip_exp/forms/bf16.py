"""The skill by PyTorch with weights and activations in bf16, the readout in fp32."""

from pathlib import Path

from skip_exp.forms.base import Form
from skip_exp.skill.skill import Skill
from skip_exp.utils.machine import multiplies_bf16


class Bf16(Form):
    name = "bf16"
    arguments = "--precision bf16"

    def available(self) -> bool:
        return multiplies_bf16()

    def open(self, folder: Path) -> Skill:
        return Skill.load(folder, precision="bf16")
