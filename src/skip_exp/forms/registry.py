"""The forms in which a finished skill is opened and served."""

import logging
from pathlib import Path
from typing import ClassVar

import torch

from skip_exp.cache.version import code_of, digest
from skip_exp.errors import SkipError
from skip_exp.skill.classifier import Classifier
from skip_exp.skill.export.onnx.runtime import OnnxSkill, check_packages
from skip_exp.skill.record import read_checksum
from skip_exp.skill.skill import Skill
from skip_exp.utils.machine import multiplies_bf16

log = logging.getLogger(__name__)

FILES = "forms"  # folder of a search: what forms need beside its skills, by form, cut and skill


class Form:
    """A way to open and serve a finished skill; a new one is a subclass, and stands in FORMS.

    Attributes:
        name: in tables, such as ``int8``.
        precision: with which :meth:`Skill.load` opens it, and ``skip-exp predict`` its folder.
    """

    name: ClassVar[str]
    precision: ClassVar[str] = "32-true"

    def available(self) -> bool:
        """Whether this machine runs it well; if a package is missing, the log names it."""
        return True

    def save(self, skill: Skill, folder: Path) -> Path:
        """Write what :meth:`open` needs, and return its folder.

        Args:
            skill: read from a folder, in fp32.
            folder: for files of this form, where the skill's own do not suffice. Where it is there
                already, it is of this skill.

        Raises:
            SkipError: the skill has no such form.
        """
        assert skill.folder is not None
        return skill.folder

    def name_files(self, skill: Path) -> str:
        """Stands for what :meth:`save` writes: another skill or other code has another name."""
        return digest([read_checksum(skill), code_of(type(self).__module__)])[:12]

    def find_files(self, skill: Path) -> Path | None:
        """What a search has saved of a skill that lies in its folder; None where it has not."""
        pattern = f"{FILES}/{self.name}/*-{self.name_files(skill)}"
        for above in skill.parents[:3]:
            for files in above.glob(pattern):
                return files
        return None

    def open(self, folder: Path) -> Classifier:
        """What :meth:`save` wrote, or :meth:`Classifier.save` of what was opened before.

        Raises:
            SkipError: it cannot be loaded.
        """
        return Skill.load(folder, precision=self.precision)


class Fp32(Form):
    """The skill by PyTorch, as it was trained."""

    name = "fp32"


class Bf16(Form):
    """The skill by PyTorch with weights and activations in bf16, the readout in fp32."""

    name = "bf16"
    precision = "bf16"

    def available(self) -> bool:
        return multiplies_bf16()


class Int8(Form):
    """An export with 8-bit weights by ONNX Runtime."""

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


FORMS: dict[str, Form] = {form.name: form for form in (Fp32(), Bf16(), Int8())}


def list_available() -> list[Form]:
    """The forms that this machine runs well, fp32 first."""
    return [form for form in FORMS.values() if form.available()]
