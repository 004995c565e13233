"""prune: irrelevant neurons are removed from the weights; what stays is the subnetwork."""

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import lightning as L

from skip_exp.callbacks.between import PruningCallback
from skip_exp.config.prune import MISSED
from skip_exp.data.metrics import build_metrics
from skip_exp.job.job import Job
from skip_exp.models.sites import Keep, Relevance, Site, keep_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.sublayers import Timed, time_sublayers
from skip_exp.pruning import allocate, latency
from skip_exp.pruning.surgery import cut
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import act_between

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """The subnetwork before re-tuning.

    Attributes:
        model: the smaller model with the dense model's prompt and readout.
        keep: what stays, in indices of the dense model.
        method: fields of the result's ``method``: the timing, where a speed-up was the goal.
    """

    model: SoftPromptModel
    keep: Keep
    method: dict[str, Any] = field(default_factory=dict)


def prune(job: Job, dense: SoftPromptModel, relevance: Relevance, ratio: float | None) -> Pruned:
    """The relevant part of ``dense``, which is not changed, from a separate pass.

    Args:
        ratio: fraction of the block parameters to remove; None where the goal is a speed-up.

    Raises:
        ConfigError: a speed-up that cannot be reached.
    """
    target = job.cfg.prune.goal.target_speedup
    timed = None if target is None else time_sublayers(job, dense)
    callback = PruningCallback(lambda model: subnetwork(job, model, relevance, ratio, timed))
    module = PromptTuner(dense, "prune", job.cfg.retune, build_metrics(job.data.spec))
    act_between(job.trainer, module, callback)
    _log_reached(dense, module.model, callback.keep, ratio)
    method = {} if timed is None else {"table": timed.about(callback.keep)}
    return Pruned(module.model, callback.keep, method)


def _log_reached(
    dense: SoftPromptModel, pruned: SoftPromptModel, keep: Keep, ratio: float | None
) -> None:
    """Log what was pruned, as a warning where ``ratio`` could not be met."""
    left = pruned.block_parameters() / dense.block_parameters()
    reached, kinds = 1 - left, dict[str, tuple[int, int]]()
    for site, (kept, of) in keep_sizes(dense.shapes(), keep).items():
        before, after = kinds.get(kind := Site(site).kind, (0, 0))
        kinds[kind] = before + of, after + kept
    sizes = ", ".join(f"{kind} {of:,} -> {kept:,}" for kind, (of, kept) in kinds.items())
    missed = ratio is not None and abs(reached - ratio) > MISSED
    level, why = (logging.WARNING, f", not prune.ratio={ratio}") if missed else (logging.INFO, "")
    message = "pruned %.1f %% of the block parameters%s: %s"
    log.log(level, message, 100 * reached, why, sizes)


def subnetwork(
    job: Job,
    dense: SoftPromptModel,
    relevance: Relevance,
    ratio: float | None,
    timed: Timed | None,
) -> tuple[SoftPromptModel, Keep]:
    """The smaller model, and what it keeps in indices of ``dense``.

    Raises:
        ConfigError: a speed-up that cannot be reached.
    """
    prune, sizes, target = job.cfg.prune, dense.shapes(), job.cfg.prune.goal.target_speedup
    choose = partial(
        allocate.allocate,
        sizes=sizes,
        sites=prune.sites,
        allocation=prune.allocation,
        round_to=prune.round_to,
    )
    L.seed_everything(job.seed("prune"), verbose=False)  # a custom allocation may draw at random
    if timed is None or target is None:
        keep = choose(relevance, ratio=ratio or 0.0)
    else:
        most = allocate.most(sizes, prune.sites)
        keep = latency.search(timed.table, target, most, lambda part: choose(relevance, ratio=part))
    return cut(dense, keep), keep
