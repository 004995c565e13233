"""attribute: the relevance of every neuron for the task, computed once for all ratios."""

import copy
import logging
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from skip_exp.cache.store import Entry
from skip_exp.callbacks.between import AttributionCallback
from skip_exp.data.batches import Batch
from skip_exp.data.metrics import build_metrics
from skip_exp.errors import ConfigError
from skip_exp.job.job import Job
from skip_exp.models.sites import Relevance, Site, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import act_between
from skip_exp.utils import bars

log = logging.getLogger(__name__)

BATCH = 32  # texts of one pass; the size does not change the scores


def attribute(job: Job, dense: SoftPromptModel) -> tuple[Relevance, bool]:
    """The relevance of the dense model's neurons, and whether it came from the cache."""

    def compute() -> Entry:
        callback = AttributionCallback(lambda model: relevance_of(job, model))
        module = PromptTuner(dense, "attribute", job.cfg.tune, build_metrics(job.data.spec))
        act_between(job.trainer, module, callback)
        _check_not_constant(job, callback.relevance)
        return Entry(callback.relevance)

    entry = job.stage("attribute", compute)
    scored = sum(scores.numel() for scores in entry.tensors.values())
    log.info("%s neurons and heads scored%s", f"{scored:,}", " (from the cache)" * entry.hit)
    return entry.tensors, entry.hit


def relevance_of(job: Job, model: SoftPromptModel) -> Relevance:
    """The method's scores of ``model``, on the model's device; raises ConfigError.

    The method gets a copy: other jobs share the weights, and a method may ask for their gradients.
    """
    device = next(model.parameters()).device
    L.seed_everything(job.seed("attribute"), verbose=False)  # a custom method may draw at random
    found = job.method(copy.deepcopy(model), calibration(job, device))
    try:
        return checked(found, site_sizes(model.shapes()))
    except ValueError as error:
        target = job.cfg.attribution._target_
        raise ConfigError("attribution._target_", target, str(error)) from None


def checked(found: Any, sizes: Mapping[Site, tuple[int, ...]]) -> Relevance:
    """The scores that a (custom) method returned, as relevance: fp32 on the CPU.

    Args:
        found: {site: scores}, as tensors or NumPy arrays.
        sizes: the shape of each site's scores.

    Raises:
        ValueError: not a mapping, a missing or unknown site, scores of a wrong shape or not finite.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"must return {{site: scores}}, found {type(found).__name__}")
    if unknown := [str(site) for site in found if site not in sizes]:
        raise ValueError(f"{unknown[0]}: no such site; there are {', '.join(list(sizes)[:4])}, ...")
    return {site: _scores(site, found.get(site), size) for site, size in sizes.items()}


def _scores(site: Site, scores: Any, size: tuple[int, ...]) -> Tensor:
    if not isinstance(scores, Tensor | np.ndarray):
        what = "nothing" if scores is None else type(scores).__name__
        raise ValueError(f"{site}: found {what}, needed a tensor {list(size)}")
    if tuple(scores.shape) != size:
        raise ValueError(f"{site}: found scores {list(scores.shape)}, needed {list(size)}")
    try:
        tensor = torch.as_tensor(scores).detach()
    except TypeError:  # an array of objects or texts
        tensor = torch.empty(0, dtype=torch.complex64)
    if tensor.is_complex():
        raise ValueError(f"{site}: found scores of type {scores.dtype}, needed numbers")
    tensor = tensor.to("cpu", torch.float32)
    if bad := int((~tensor.isfinite()).sum()):
        raise ValueError(
            f"{site}: {bad} of {tensor.numel()} scores are not finite, as after a fit that diverged"
        )
    return tensor


def _check_not_constant(job: Job, relevance: Relevance) -> None:
    """Equal scores would prune in arbitrary order; raises ConfigError."""
    values = torch.cat([scores.flatten() for scores in relevance.values()])
    if len(values) > 1 and bool((values == values[0]).all()):
        why = f"all {len(values)} scores are {values[0]:g}: pruning needs different scores"
        raise ConfigError("attribution._target_", job.cfg.attribution._target_, why)


def calibration(job: Job, device: torch.device) -> list[Batch]:
    """``attribution.samples`` train rows, drawn by the job's seed, as batches on ``device``."""
    samples = job.cfg.attribution.samples
    batches = job.batches(job.cfg.tune, "attribute").attribution_batches(
        samples, BATCH, job.seed("attribute")
    )
    moved = ({name: t.to(device) for name, t in batch.items()} for batch in batches)
    return bars.counted(moved, "attribute")
