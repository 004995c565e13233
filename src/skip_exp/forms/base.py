"""What a form is."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from skip_exp.skill.classifier import Classifier
from skip_exp.skill.skill import Skill


class Form(ABC):
    """A way to open and serve a finished skill.

    A new form is a file with a subclass, and a line in :mod:`skip_exp.forms.registry`.

    Attributes:
        name: in tables, such as ``int8``.
        arguments: those with which ``skip-exp predict`` opens a folder in this form.
    """

    name: ClassVar[str]
    arguments: ClassVar[str] = ""

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

    @abstractmethod
    def open(self, folder: Path) -> Classifier:
        """What :meth:`save` wrote, or :meth:`Classifier.save` of what was opened before.

        Raises:
            SkipError: it cannot be loaded.
        """
