"""attribute: every neuron's relevance for the task, once for all ratios."""

import torch

from skip_exp.cache.store import Entry
from skip_exp.callbacks.attribution import AttributionCallback
from skip_exp.data.batches import Batch
from skip_exp.data.metrics import build_metrics
from skip_exp.errors import ConfigError
from skip_exp.job import Job
from skip_exp.models.sites import Relevance, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import act_between


def attribute(job: Job, dense: SoftPromptModel) -> tuple[Relevance, bool]:
    """Every neuron's relevance in the tuned model, by a pass of its own or from the cache.

    Returns it and whether it was cached.
    """

    def compute() -> Entry:
        callback = AttributionCallback(lambda model: relevance_of(job, model))
        module = PromptTuner(dense, "attribute", job.cfg.tune, build_metrics(job.data.spec))
        act_between(job.trainer, module, callback)
        return Entry(callback.relevance, {})

    entry = job.stage("attribute", compute, attribution=job.cfg.attribution.name)
    return entry.tensors, entry.hit


def relevance_of(job: Job, model: SoftPromptModel) -> Relevance:
    """The method's scores of ``model``, on the device where it is; raises ConfigError."""
    relevance = job.method(model, calibration(job, next(model.parameters()).device))
    for site, size in site_sizes(model.shapes()).items():  # the method may be anybody's
        found = tuple(relevance[site].shape) if site in relevance else "nothing"
        if found != size:
            target = job.cfg.attribution._target_
            raise ConfigError("attribution._target_", target, f"{site}: {found}, not {size}")
    return relevance


def calibration(job: Job, device: torch.device) -> list[Batch]:
    """Batches of train rows on ``device``: ``attribution.samples`` of them, by the job's seed."""
    settings = job.cfg.attribution
    batches = job.batches(job.cfg.tune, "attribute").attribution_batches(
        settings.samples, settings.batch, job.seed("attribute")
    )
    return [{name: t.to(device) for name, t in batch.items()} for batch in batches]
