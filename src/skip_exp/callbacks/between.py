"""Neuron attribution and structured pruning, which run between the two fits."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from skip_exp.models.sites import Keep, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel

Score = Callable[[SoftPromptModel], Relevance]
Prune = Callable[[SoftPromptModel], tuple[SoftPromptModel, Keep]]


class AttributionCallback(Callback):
    """Scores every neuron of the module's model.

    Args:
        score: (model in eval mode, on the trainer's device) -> relevance.

    Attributes:
        relevance: the scores; empty before the callback ran.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.relevance: Relevance = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        self.relevance = self.score(_model(trainer, pl_module))


class PruningCallback(Callback):
    """Replaces the module's model by a smaller one; the dense model is not modified.

    Args:
        prune: (dense model in eval mode, on the trainer's device) -> smaller model, what it keeps.

    Attributes:
        keep: what the smaller model keeps; empty before the callback ran.
    """

    def __init__(self, prune: Prune) -> None:
        self.prune = prune
        self.keep: Keep = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        pl_module.model, self.keep = self.prune(_model(trainer, pl_module))


def _model(trainer: L.Trainer, module: Any) -> SoftPromptModel:
    """The module's model in eval mode, on the device that Lightning moves it to after `setup`."""
    return module.model.to(trainer.strategy.root_device).eval()
