"""attribute: the relevance of every neuron for the task, computed once for all ratios."""

import logging

import lightning as L

from skip_exp.cache.store import Entry, Keyed
from skip_exp.callbacks.between import AttributionCallback, Method
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows
from skip_exp.errors import ConfigError
from skip_exp.models.sites import Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.job import Job
from skip_exp.training.trainer import act_between

log = logging.getLogger(__name__)

BATCH = 32  # texts of one pass; the size does not change the scores


def attribute(job: Job, dense: Keyed[SoftPromptModel]) -> tuple[Keyed[Relevance], str]:
    """The relevance of the dense model's neurons, and whether it was a hit or a miss."""
    settings = job.cfg.attribution
    try:
        entry = job.cache.stage(
            score_neurons,
            job.trainer,
            dense=dense,
            data=job.dense_arguments["data"],
            method=job.method,
            samples=settings.samples,
            seed=job.seed("attribute"),
        )
    except ValueError as error:  # a custom method's mistake
        raise ConfigError("attribution._target_", settings._target_, str(error)) from error
    relevance: Relevance = {Site(name): scores for name, scores in entry.tensors.items()}
    scored = sum(scores.numel() for scores in relevance.values())
    note = " (from the cache)" if entry.hit else ""
    log.info("%s neurons and heads scored%s", f"{scored:,}", note)
    return Keyed(entry.key, lambda: relevance, entry.keep), entry.found


def score_neurons(
    trainer: TrainerConfig,
    *,
    dense: SoftPromptModel,
    data: Rows,
    method: Method,
    samples: int,
    seed: int,
) -> Entry:
    """The scores of a method on so many train rows, drawn by the seed."""
    rows = TextDataModule(data, BATCH, seed)
    callback = AttributionCallback(method, rows.attribution_batches(samples, BATCH, seed))
    L.seed_everything(seed, verbose=False)  # a custom method may draw at random
    act_between(trainer, dense, callback)
    return Entry({str(site): scores for site, scores in callback.relevance.items()})
