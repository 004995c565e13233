"""Neuron attribution between the phases."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from skip_exp.models.soft_prompt import SoftPromptModel

Relevance = dict[str, Tensor]


class AttributionCallback(Callback):
    """Scores every neuron of the tuned model; later callbacks read ``relevance``.

    Args:
        score: (model on its device) -> relevance.
    """

    def __init__(self, score: Callable[[SoftPromptModel], Relevance]) -> None:
        self.score = score
        self.relevance: Relevance | None = None
        self.seconds = 0.0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if self.relevance is not None:
            return
        start = time.perf_counter()
        model = pl_module.model
        model.to(trainer.strategy.root_device)  # `setup` runs before Lightning moves the model
        self.relevance = self.score(model.eval())
        self.seconds = time.perf_counter() - start
