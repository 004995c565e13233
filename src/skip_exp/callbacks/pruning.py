"""Structured pruning between the phases."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from skip_exp.callbacks.attribution import AttributionCallback, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel, State, load_trainable, trainable_state
from skip_exp.pruning.reconstruct import Changes

Keep = dict[str, Tensor]


class PruningCallback(Callback):
    """Replaces the module's model by a smaller one; the dense model stays untouched.

    Args:
        attribution: where the relevance comes from; stands before this callback.
        prune: (dense model, relevance) -> smaller model, what it keeps, and what was added to it
            for what it lost.
        anew: keep -> the prompt and readout that re-tuning starts from, instead of the dense ones.
    """

    def __init__(
        self,
        attribution: AttributionCallback,
        prune: Callable[[SoftPromptModel, Relevance], tuple[SoftPromptModel, Keep, Changes]],
        anew: Callable[[Keep], State] | None = None,
    ) -> None:
        self.attribution = attribution
        self.prune = prune
        self.anew = anew
        self.keep: Keep | None = None
        self.changes: Changes = {}
        self.pruned_state: State = {}  # prompt and readout after the cut, before any re-tuning
        self.seconds = 0.0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        if self.keep is not None:
            return
        start = time.perf_counter()
        relevance = self.attribution.relevance
        if relevance is None:
            raise RuntimeError("AttributionCallback must stand before PruningCallback")
        # After an earlier fit, what it shared with its own smaller model may be elsewhere.
        dense = pl_module.model.to(trainer.strategy.root_device)
        pl_module.model, self.keep, self.changes = self.prune(dense, relevance)
        pl_module.model.train_only(pl_module.settings.train)
        self.pruned_state = trainable_state(pl_module.model)
        if self.anew:
            load_trainable(pl_module.model, self.anew(self.keep))
        self.seconds = time.perf_counter() - start
