"""Runs neuron attribution between the two fits."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel


class AttributionCallback(Callback):
    """Scores every neuron of the module's model.

    Args:
        score: (model in eval mode, on the trainer's device) -> relevance.

    Attributes:
        relevance: the scores; empty before the callback ran.
    """

    def __init__(self, score: Callable[[SoftPromptModel], Relevance]) -> None:
        self.score = score
        self.relevance: Relevance = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        # `setup` runs before Lightning moves the model.
        model = pl_module.model.to(trainer.strategy.root_device)
        self.relevance = self.score(model.eval())
