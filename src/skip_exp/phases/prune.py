"""prune: from relevance to the subnetwork; the irrelevant neurons are really gone."""

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from skip_exp.callbacks.between import PruningCallback
from skip_exp.config.prune import MISSED
from skip_exp.data.metrics import build_metrics
from skip_exp.job.job import Job
from skip_exp.models.sites import Keep, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.attribute import relevance_of
from skip_exp.phases.fit import fit, teacher_of
from skip_exp.phases.sublayers import Timed, time_sublayers
from skip_exp.pruning import allocate, latency, steps
from skip_exp.pruning.surgery import cut
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import act_between

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pruned:
    """The subnetwork before re-tuning.

    Attributes:
        model: the smaller model with the dense prompt and readout, cut alike.
        keep: what stays, in indices of the dense model.
        table: of the timing that decided (``Timed.about``); empty where none did.
    """

    model: SoftPromptModel
    keep: Keep
    table: dict[str, Any] = field(default_factory=dict)


def prune(job: Job, dense: SoftPromptModel, relevance: Relevance, ratio: float | None) -> Pruned:
    """Cut ``dense`` to what is relevant, in a pass of its own; ``dense`` stays as it is.

    Args:
        ratio: fraction of the block parameters to remove; None where the goal is a speed-up.

    Raises:
        ConfigError: a speed-up out of reach.
    """
    target = job.cfg.prune.goal.target_speedup
    timed = None if target is None else time_sublayers(job, dense)
    callback = PruningCallback(lambda model: subnetwork(job, model, relevance, ratio, timed))
    module = PromptTuner(dense, "prune", job.cfg.retune, build_metrics(job.data.spec))
    act_between(job.trainer, module, callback)
    _tell_reached(dense, module.model, ratio)
    table = {} if timed is None else timed.about(callback.keep)
    return Pruned(module.model, callback.keep, table)


def _tell_reached(dense: SoftPromptModel, pruned: SoftPromptModel, ratio: float | None) -> None:
    """Say so where the ratio reached is not the one asked for: wide groups, or groups left out."""
    after, before = (sum(s.parameters for s in model.shapes()) for model in (pruned, dense))
    reached = 1 - after / before
    if ratio is not None and abs(reached - ratio) > MISSED:
        message = "prune: prune.ratio=%g: %.3f of the block parameters went"
        log.warning(message, ratio, reached)


def subnetwork(
    job: Job,
    dense: SoftPromptModel,
    relevance: Relevance,
    ratio: float | None,
    timed: Timed | None = None,
) -> tuple[SoftPromptModel, Keep]:
    """The smaller model, and what it keeps in indices of ``dense``.

    In ``prune.steps`` steps: after each but the last the model cut so far may be tuned a little,
    and what is left of it is attributed anew.

    Raises:
        ConfigError: a speed-up out of reach.
    """
    prune, sizes, target = job.cfg.prune, dense.shapes(), job.cfg.prune.goal.target_speedup
    choose = partial(
        allocate.allocate,
        sizes=sizes,
        sites=prune.sites,
        allocation=prune.allocation,
        round_to=prune.round_to,
    )
    if ratio is None and timed is not None and target is not None:
        most = allocate.most(sizes, prune.sites)
        keep = latency.search(timed.table, target, most, lambda part: choose(relevance, ratio=part))
        return cut(dense, keep), keep
    total, count, device = ratio or 0.0, prune.steps, next(dense.parameters()).device
    earlier: Keep = {}
    model = dense
    for step in range(1, count):
        keep = choose(relevance, ratio=total * step / count, earlier=earlier, last=False)
        model, earlier = cut(model, steps.relative(keep, earlier)), keep
        _tune_between(job, dense, model, step)
        model.to(device).eval()  # a fit leaves it elsewhere
        relevance = steps.lift(relevance_of(job, model), earlier, relevance)
    keep = choose(relevance, ratio=total, earlier=earlier)
    return cut(model, steps.relative(keep, earlier)), keep


def _tune_between(job: Job, dense: SoftPromptModel, model: SoftPromptModel, step: int) -> None:
    """``prune.step_epochs`` of re-tuning after a step of pruning that is not the last."""
    if job.cfg.prune.step_epochs:
        settings = replace(job.cfg.retune, epochs=job.cfg.prune.step_epochs)
        model.train_only(settings.train, settings.rank, job.seed(f"step{step}"))
        fit(job, model, settings, f"step{step}", None, teacher_of(job, dense))
