"""Runs structured pruning between the two fits."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.sites import Keep
from skip_exp.models.soft_prompt import SoftPromptModel

Prune = Callable[[SoftPromptModel], tuple[SoftPromptModel, Keep]]


class PruningCallback(Callback):
    """Replaces the module's model by a smaller one; the dense model is not modified.

    Args:
        prune: (dense model in eval mode, on the trainer's device) -> smaller model, what it keeps.

    Attributes:
        keep: of the smaller model; empty before it acted.
    """

    def __init__(self, prune: Prune) -> None:
        self.prune = prune
        self.keep: Keep = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        # The weights it shares with an earlier smaller model may be on another device.
        dense = pl_module.model.to(trainer.strategy.root_device).eval()
        pl_module.model, self.keep = self.prune(dense)
