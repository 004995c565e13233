"""attribute: every neuron's relevance for the task, once for all ratios."""

from collections.abc import Mapping
from typing import Any

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

BATCH = 32  # texts of one pass; the size does not change the scores


def attribute(job: Job, dense: SoftPromptModel) -> tuple[Relevance, bool]:
    """Every neuron's relevance in the tuned model, by a pass of its own or from the cache.

    Returns it and whether it was cached.
    """

    def compute() -> Entry:
        callback = AttributionCallback(lambda model: relevance_of(job, model))
        module = PromptTuner(dense, "attribute", job.cfg.tune, build_metrics(job.data.spec))
        act_between(job.trainer, module, callback)
        _check_they_tell(job, callback.relevance)
        return Entry(callback.relevance, {})

    entry = job.stage("attribute", compute)
    return entry.tensors, entry.hit


def relevance_of(job: Job, model: SoftPromptModel) -> Relevance:
    """The method's scores of ``model``, on the device where it is; raises ConfigError."""
    found = job.method(model, calibration(job, next(model.parameters()).device))
    try:
        return checked(found, site_sizes(model.shapes()))
    except ValueError as error:
        raise ConfigError(
            "attribution._target_", job.cfg.attribution._target_, str(error)
        ) from None


def checked(found: Any, sizes: Mapping[Site, tuple[int, ...]]) -> Relevance:
    """What a method returned, which may be anybody's, as relevance: fp32 on the CPU.

    Args:
        found: {site: scores}, as tensors or NumPy arrays.
        sizes: the sites that there are, with the shape that the scores of each must have.

    Raises:
        ValueError: no mapping, a site that is missing or unknown, or scores of another shape or
            that are no finite numbers.
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
        raise ValueError(f"{site}: {bad} of {tensor.numel()} scores are not finite")
    return tensor


def _check_they_tell(job: Job, relevance: Relevance) -> None:
    """Equal scores would cut whatever stands first; raises ConfigError."""
    values = torch.cat([scores.flatten() for scores in relevance.values()])
    if len(values) > 1 and bool((values == values[0]).all()):
        why = f"all {len(values)} scores are {values[0]:g}: they do not tell what the task needs"
        raise ConfigError("attribution._target_", job.cfg.attribution._target_, why)


def calibration(job: Job, device: torch.device) -> list[Batch]:
    """Batches of train rows on ``device``: ``attribution.samples`` of them, by the job's seed."""
    samples = job.cfg.attribution.samples
    batches = job.batches(job.cfg.tune, "attribute").attribution_batches(
        samples, BATCH, job.seed("attribute")
    )
    return [{name: t.to(device) for name, t in batch.items()} for batch in batches]
