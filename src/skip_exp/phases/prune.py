"""attribute, search, prune: which neurons matter, how many stay, and the cut.

Relevance is computed once for all ratios. The search finds the ratio at which the cut model is as
fast as ``prune.target_speedup`` asks for: each cut is timed. Bisection assumes that more pruning is
never slower, which noise can violate by a step.
"""

import logging
from bisect import bisect_left
from dataclasses import asdict, replace
from typing import Any

import lightning as L

from skip_exp.cache.store import Entry, Keyed
from skip_exp.cache.version import digest, parts_code
from skip_exp.callbacks.between import AttributionCallback, Method, PruningCallback
from skip_exp.config.groups import MISSED, PruneConfig
from skip_exp.config.schema import BenchmarkConfig, TrainerConfig
from skip_exp.data.module import draw_batches
from skip_exp.data.rows import Rows
from skip_exp.errors import ConfigError
from skip_exp.models.family import Keep, Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import block_parameters, keep_sizes, shapes_of
from skip_exp.phases.job import Job
from skip_exp.phases.measure import compare
from skip_exp.pruning.allocate import bounds
from skip_exp.training.trainer import act_between
from skip_exp.utils.timing import describe_place

log = logging.getLogger(__name__)

BATCH = 32  # texts of one pass of attribution; the size does not change the scores
RATIO_STEPS = 100  # of the ratio from 0 to 1


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
    callback = AttributionCallback(method, draw_batches(data, samples, BATCH, seed))
    L.seed_everything(seed, verbose=False)  # a custom method may draw at random
    act_between(trainer, dense, callback)
    return Entry({str(site): scores for site, scores in callback.relevance.items()})


def search(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance]
) -> tuple[float, dict[str, float], bool]:
    """The smallest ratio that is as fast as ``prune.target_speedup``, and the probes.

    Probes are cached, so an interrupted search continues, and one with another goal reuses them.

    Returns:
        The ratio, the speed-up by probed ratio, and whether all probes were taken on a quiet
        machine.

    Raises:
        ConfigError: a speed-up that cannot be reached.
    """
    settings, probes = job.cfg.prune, dict[str, Entry]()
    target = settings.target_speedup
    assert target is not None
    low, high = bounds(shapes_of(dense.value), settings.sites, settings.layers)
    if target == 1:
        return low, {}, True
    ratios = [i / RATIO_STEPS for i in range(1, RATIO_STEPS) if low <= i / RATIO_STEPS <= high]

    def is_fast(ratio: float) -> bool:
        probes[f"{ratio:g}"] = entry = _probe(job, dense, relevance, ratio)
        speedup = entry.values["speedup"]
        log.info("search: ratio %g: %.2fx%s", ratio, speedup, " (cached)" if entry.hit else "")
        return bool(speedup >= target)

    found = bisect_left(ratios, True, key=is_fast)
    speedups = {ratio: entry.values["speedup"] for ratio, entry in probes.items()}
    if found == len(ratios):
        raise ConfigError(
            "prune.target_speedup",
            target,
            f"must be between 1 and {int(max(speedups.values(), default=1) * 100) / 100}",
        )
    return ratios[found], speedups, all(entry.keep for entry in probes.values())


def _probe(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance], ratio: float
) -> Entry:
    """The speed-up of one cut, from the cache or measured, whatever the goal of the search."""
    settings = replace(job.cfg.prune, ratio=ratio, target_speedup=None)
    code = parts_code(settings.allocation)
    return job.cache.stage(
        time_cut,
        job.trainer,
        job.device,
        dense=dense,
        relevance=relevance,
        settings=Keyed(digest([asdict(settings), code]), lambda: settings),
        seed=job.seed("prune"),
        sizes=job.cfg.benchmark,
        place=describe_place(job.device),
    )


def time_cut(
    trainer: TrainerConfig,
    device: str,
    *,
    dense: SoftPromptModel,
    relevance: Relevance,
    settings: PruneConfig,
    seed: int,
    sizes: BenchmarkConfig,
    place: list[Any],
) -> Entry:
    """Time a cut at ``settings.ratio`` against the dense model; under load it is not kept."""
    assert settings.ratio is not None
    cut, _ = prune(trainer, dense, relevance, settings, settings.ratio, seed)
    timed = compare(dense, cut, sizes, device)
    return Entry(values={"speedup": timed["speedup"]}, keep=not timed["contended"])


def prune(
    trainer: TrainerConfig,
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
    callback = PruningCallback(
        relevance,
        ratio,
        sites=settings.sites,
        allocation=settings.allocation,
        round_to=settings.round_to,
        layers=settings.layers,
    )
    L.seed_everything(seed, verbose=False)  # a custom allocation may draw at random
    return act_between(trainer, dense, callback), callback.keep


def log_reached(dense: SoftPromptModel, pruned: SoftPromptModel, keep: Keep, ratio: float) -> None:
    """Log what was pruned, as a warning where ``ratio`` could not be met."""
    reached = 1 - block_parameters(pruned) / block_parameters(dense)
    kinds: dict[str, tuple[int, int]] = {}
    for site, (kept, of) in keep_sizes(shapes_of(dense), keep).items():
        before, after = kinds.get(Site(site).kind, (0, 0))
        kinds[Site(site).kind] = before + of, after + kept
    sizes = ", ".join(f"{kind} {of:,} -> {kept:,}" for kind, (of, kept) in kinds.items())
    if abs(reached - ratio) > MISSED:
        log.warning(
            "pruned %.1f %% of the block parameters, not prune.ratio=%s: %s",
            100 * reached,
            ratio,
            sizes,
        )
    else:
        log.info("pruned %.1f %% of the block parameters: %s", 100 * reached, sizes)
