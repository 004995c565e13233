"""Language models tuned for one task, with the neurons that it does not need cut out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skip_exp.api.compress import compress
    from skip_exp.api.fit import fit
    from skip_exp.models.modeling_skip import SkipForSequenceClassification
    from skip_exp.skill.export.onnx.runtime import OnnxSkill
    from skip_exp.skill.skill import Skill

__all__ = ["OnnxSkill", "Skill", "SkipForSequenceClassification"]
__all__ += ["__version__", "compress", "fit"]
__version__ = "0.1.0"

_LATER = {
    "fit": "skip_exp.api.fit",
    "compress": "skip_exp.api.compress",
    "Skill": "skip_exp.skill.skill",
    "OnnxSkill": "skip_exp.skill.export.onnx.runtime",
    "SkipForSequenceClassification": "skip_exp.skill.export.huggingface",
}


def __getattr__(name: str) -> object:
    """Import on demand: these modules import torch, which takes seconds."""
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
