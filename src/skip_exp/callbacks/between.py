"""Neuron attribution and structured pruning, also as callbacks of any Lightning trainer.

The callbacks act on ``pl_module.model`` in ``setup``, before optimizers are built, and once:
Lightning calls ``setup`` again in each pass of a trainer, such as ``test`` after ``fit``.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from skip_exp.config.checks import KINDS
from skip_exp.data.batches import Batch
from skip_exp.models.family import Keep, Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import cut, shapes_of, site_sizes
from skip_exp.pruning.allocate import allocate

Method = Callable[[SoftPromptModel, list[Batch]], Relevance]


def find_relevance(
    model: SoftPromptModel, method: Method, batches: Iterable[Batch], device: torch.device
) -> Relevance:
    """The relevance of a model's neurons: {site: scores}, fp32 on the CPU.

    Args:
        method: (model in eval mode, batches) -> relevance. It gets a copy of the model, because it
            may ask for gradients of weights that other models share.
        batches: input_ids, attention_mask and labels of the calibration rows.
        device: of the copy and of the batches that the method gets.

    Raises:
        ValueError: the method returned something else.
    """
    duplicate = copy.deepcopy(model).to(device).eval()
    scores = method(duplicate, [move_data_to_device(batch, device) for batch in batches])
    return check_relevance(scores, site_sizes(shapes_of(duplicate)))


@dataclass(eq=False, repr=False)
class AttributionCallback(Callback):
    """Scores every neuron of the module's model.

    Example:
        >>> attribution = AttributionCallback(activation_gradient.scores, batches)
        >>> L.Trainer(callbacks=[attribution]).validate(module, loader)
        >>> attribution.relevance["encoder.0.ffn"].shape
        torch.Size([1536])

    Args:
        method: as in :func:`find_relevance`.
        batches: as there; moved to the trainer's device.

    Attributes:
        relevance: as there; empty before the callback ran.
    """

    method: Method
    batches: Iterable[Batch]
    relevance: Relevance = field(default_factory=dict, init=False)

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Score the neurons. Raises ValueError: the method returned something else."""
        if not self.relevance:
            device = trainer.strategy.root_device
            self.relevance = find_relevance(pl_module.model, self.method, self.batches, device)


@dataclass(eq=False, repr=False)
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

    relevance: Relevance
    ratio: float
    sites: Sequence[str] = KINDS
    allocation: str = "global"
    round_to: int = 8
    layers: int | None = None
    keep: Keep = field(default_factory=dict, init=False)

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Cut the model. Raises ConfigError: the sites and layers cannot reach the ratio."""
        if self.keep:
            return
        self.keep = allocate(
            self.relevance,
            sizes=shapes_of(pl_module.model),
            ratio=self.ratio,
            sites=list(self.sites),
            allocation=self.allocation,
            round_to=self.round_to,
            layers=self.layers,
        )
        pl_module.model = cut(pl_module.model, self.keep, self.layers)


def check_relevance(returned: Any, sizes: Mapping[Site, int]) -> Relevance:
    """The scores that a method returned, as relevance: fp32 on the CPU.

    Args:
        returned: {site: scores}, as tensors or NumPy arrays.
        sizes: the number of neurons of each site.

    Raises:
        ValueError: not a mapping, a missing or unknown site, scores of a wrong shape or not finite,
            or all equal, which would prune in arbitrary order.
    """
    if not isinstance(returned, Mapping):
        raise ValueError(f"must return {{site: scores}}, found {type(returned).__name__}")
    for site in returned:
        if site not in sizes:
            raise ValueError(f"{site}: no such site; there are {', '.join(list(sizes)[:4])}, ...")
    relevance: Relevance = {
        site: _check_scores(site, returned.get(site), size) for site, size in sizes.items()
    }
    values = torch.cat(list(relevance.values()))
    if len(values) > 1 and bool((values == values[0]).all()):
        raise ValueError(
            f"all {len(values)} scores are {values[0]:g}: pruning needs different scores"
        )
    return relevance


def _check_scores(site: Site, scores: Any, size: int) -> Tensor:
    if not isinstance(scores, Tensor | np.ndarray) or tuple(scores.shape) != (size,):
        kind = type(scores).__name__
        shape = list(getattr(scores, "shape", []))
        raise ValueError(f"{site}: found {kind} {shape}, needed a tensor [{size}]")
    tensor = torch.as_tensor(scores).detach().to("cpu", torch.float32)
    bad = int((~tensor.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{site}: {bad} of {tensor.numel()} scores are not finite, as after a fit that diverged"
        )
    return tensor
