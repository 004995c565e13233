"""Finds the ratio at which the cut model is as fast as ``prune.target_speedup`` asks for.

Each cut is timed. Bisection assumes that more pruning is never slower, which noise can violate by a
step.
"""

import logging
from bisect import bisect_left
from dataclasses import asdict, replace
from typing import Any

from skip_exp.cache.store import Entry, Keyed
from skip_exp.cache.version import digest, part_code, room_code
from skip_exp.config.groups import PruneConfig
from skip_exp.config.schema import BenchmarkConfig, TrainerConfig
from skip_exp.errors import ConfigError
from skip_exp.models.shapes import shapes_of
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.benchmark import compare
from skip_exp.phases.job import Job
from skip_exp.phases.prune import prune
from skip_exp.pruning.allocate import bounds
from skip_exp.utils.timing import describe_place

log = logging.getLogger(__name__)

RATIO_STEPS = 100  # of the ratio from 0 to 1


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
    ratios = list_ratios(low, high)

    def is_fast(ratio: float) -> bool:
        probes[f"{ratio:g}"] = entry = _probe(job, dense, relevance, ratio)
        speedup = entry.values["speedup"]
        log.info("search: ratio %g: %.2fx%s", ratio, speedup, " (cached)" if entry.hit else "")
        return bool(speedup >= target)

    found = bisect_left(ratios, True, key=is_fast)
    speedups = {ratio: entry.values["speedup"] for ratio, entry in probes.items()}
    if found == len(ratios):
        reach = f"must be between 1 and {int(max(speedups.values(), default=1) * 100) / 100}"
        raise ConfigError("prune.target_speedup", target, reach)
    return ratios[found], speedups, all(entry.keep for entry in probes.values())


def list_ratios(low: float, high: float) -> list[float]:
    """The ratios to choose from: ``1 / RATIO_STEPS`` apart, ``low`` to ``high``, without 0."""
    return [i / RATIO_STEPS for i in range(1, RATIO_STEPS) if low <= i / RATIO_STEPS <= high]


def _probe(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance], ratio: float
) -> Entry:
    """The speed-up of one cut, from the cache or measured, whatever the goal of the search."""
    settings = replace(job.cfg.prune, ratio=ratio, target_speedup=None)
    code = [part_code(settings.allocation), room_code("pruning")]
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
    cut = prune(trainer, dense, relevance, settings, settings.ratio, seed).model
    timed = compare(dense, cut, sizes, device)
    return Entry(values={"speedup": timed["speedup"]}, keep=not timed["contended"])
