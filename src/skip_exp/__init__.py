"""Soft prompts on frozen language models, with the neurons a prompt does not need cut away."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skip_exp.skill import Skill

__all__ = ["Skill", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``Skill`` on demand: it needs torch, which ``--help`` has no time for."""
    if name == "Skill":
        from skip_exp.skill import Skill

        return Skill
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
