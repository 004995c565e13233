"""Neuron attribution and structured pruning as callbacks of any Lightning trainer.

Both act in ``setup``, before optimizers are built, on ``pl_module.model``, and once: Lightning
calls ``setup`` again in each pass of a trainer, such as ``test`` after ``fit``.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback

from skip_exp.attribution.relevance import check_relevance
from skip_exp.data.batches import Batch
from skip_exp.models.shapes import shapes_of, site_sizes
from skip_exp.models.sites import Keep, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.allocate import allocate
from skip_exp.pruning.surgery import cut
from skip_exp.utils import bars

Method = Callable[[SoftPromptModel, list[Batch]], Relevance]


class AttributionCallback(Callback):
    """Scores every neuron of the module's model.

    Example:
        >>> attribution = AttributionCallback(activation_gradient.scores, batches)
        >>> L.Trainer(callbacks=[attribution]).validate(module, loader)
        >>> attribution.relevance["encoder.0.ffn"].shape
        torch.Size([1536])

    Args:
        method: (model in eval mode, batches) -> relevance. It gets a copy of the model, because it
            may ask for gradients of weights that other models share.
        batches: input_ids, attention_mask and labels of the calibration rows; moved to the
            trainer's device.

    Attributes:
        relevance: {site: scores}, fp32 on the CPU; empty before the callback ran.
    """

    def __init__(self, method: Method, batches: Iterable[Batch]) -> None:
        self.method = method
        self.batches = batches
        self.relevance: Relevance = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Score the neurons. Raises ValueError: the method returned something else."""
        if self.relevance:
            return
        model = copy.deepcopy(_model_of(trainer, pl_module)).eval()
        device = trainer.strategy.root_device
        moved = (move_data_to_device(batch, device) for batch in self.batches)
        found = self.method(model, bars.Counted(moved, "attribute"))
        self.relevance = check_relevance(found, site_sizes(shapes_of(model)))


class PruningCallback(Callback):
    """Replaces the module's model by a smaller one; the larger one is not modified.

    Example:
        >>> pruning = PruningCallback(attribution.relevance, ratio=0.7)
        >>> L.Trainer(max_epochs=3, callbacks=[pruning]).fit(module, loader)
        >>> pruning.keep["encoder.0.ffn"].shape
        torch.Size([461])

    Args:
        relevance: {site: scores}.
        ratio: fraction of the block parameters to remove.
        sites: what is pruned: ffn, heads, or both.
        allocation: ``global`` or ``uniform`` over layers, or a custom ``module.function``.
        round_to: step in which FFN units go.
        layers: later layers go first, whole, and count towards the ratio; None: there are none.

    Attributes:
        keep: {site: indices that stay}; empty before the callback ran.
    """

    def __init__(
        self,
        relevance: Relevance,
        ratio: float,
        sites: Sequence[str] = ("ffn", "heads"),
        allocation: str = "global",
        round_to: int = 8,
        layers: int | None = None,
    ) -> None:
        self.relevance = relevance
        self.ratio = ratio
        self.sites = [*sites]
        self.allocation = allocation
        self.round_to = round_to
        self.layers = layers
        self.keep: Keep = {}

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Cut the model. Raises ConfigError: the sites and layers cannot reach the ratio."""
        if self.keep:
            return
        model = _model_of(trainer, pl_module)
        keep = allocate(
            self.relevance,
            sizes=shapes_of(model),
            ratio=self.ratio,
            sites=self.sites,
            allocation=self.allocation,
            round_to=self.round_to,
            layers=self.layers,
        )
        pl_module.model = cut(model, keep, self.layers)
        self.keep = keep


def _model_of(trainer: L.Trainer, module: Any) -> SoftPromptModel:
    """The module's model, on the device that Lightning moves it to after `setup`."""
    model: SoftPromptModel = module.model
    return model.to(trainer.strategy.root_device)
