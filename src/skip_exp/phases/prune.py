"""attribute, prune: which neurons matter, and the cut.

Relevance is computed once for all ratios.
"""

import logging
import os
from collections import Counter

import lightning as L
import torch

from skip_exp.cache.store import Entry, Keyed
from skip_exp.callbacks.between import Method, find_relevance
from skip_exp.config.groups import MISSED, PruneConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.module import draw_batches
from skip_exp.data.rows import Rows
from skip_exp.errors import ConfigError
from skip_exp.models.family import Keep, Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import block_parameters, cut, keep_sizes, shapes_of
from skip_exp.phases.job import Job
from skip_exp.pruning.allocate import allocate
from skip_exp.training.trainer import root_device

log = logging.getLogger(__name__)

BATCH = 32  # texts of one pass of attribution; the size does not change the scores


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
    log.info("%s neurons and heads scored (cache: %s)", f"{scored:,}", entry.found)
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
    batches = draw_batches(data, samples, BATCH, seed)
    L.seed_everything(seed, verbose=False)  # a custom method may draw at random
    # As Lightning does in a fit: there is none where the dense model comes from the cache.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    relevance = find_relevance(dense, method, batches, root_device(trainer))
    return Entry({str(site): scores for site, scores in relevance.items()})


def prune(
    dense: SoftPromptModel,
    relevance: Relevance,
    settings: PruneConfig,
    ratio: float,
    seed: int,
) -> tuple[SoftPromptModel, Keep]:
    """The relevant part of ``dense``, which is not changed, and what stays, in its indices.

    It has the dense model's prompt and readout.

    Args:
        ratio: fraction of the block parameters to remove.
    """
    L.seed_everything(seed, verbose=False)  # a custom allocation may draw at random
    keep = allocate(
        relevance,
        sizes=shapes_of(dense),
        ratio=ratio,
        sites=settings.sites,
        allocation=settings.allocation,
        round_to=settings.round_to,
        layers=settings.layers,
    )
    return cut(dense, keep, settings.layers), keep


def log_reached(dense: SoftPromptModel, pruned: SoftPromptModel, keep: Keep, ratio: float) -> None:
    """Log what was pruned, as a warning where ``ratio`` could not be met."""
    reached = 1 - block_parameters(pruned) / block_parameters(dense)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for site, (left, size) in keep_sizes(shapes_of(dense), keep).items():
        before[Site(site).kind] += size
        after[Site(site).kind] += left
    sizes = ", ".join(f"{kind} {before[kind]:,} -> {after[kind]:,}" for kind in before)
    level = logging.WARNING if abs(reached - ratio) > MISSED else logging.INFO
    text = "pruned %.1f %% of the block parameters, prune.ratio=%s: %s"
    log.log(level, text, 100 * reached, ratio, sizes)
