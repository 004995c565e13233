"""Finds the ratio where the goal is a speed-up or a bound on the drop.

Both look at the cut model itself: how fast it is, or what it scores after re-tuning. Bisection
assumes that more pruning is never slower and never scores better, which noise can violate by a
step.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from skip_exp.cache.store import Entry, Keyed, stage_key
from skip_exp.cache.version import room_code
from skip_exp.errors import ConfigError
from skip_exp.job.identity import find_place
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.benchmark import compare
from skip_exp.phases.job import Job, key_settings
from skip_exp.phases.prune import prune
from skip_exp.phases.retune import retune
from skip_exp.phases.test import score_dense, score_slice
from skip_exp.pruning.allocate import most
from skip_exp.training.trainer import root_device

log = logging.getLogger(__name__)

COARSE, FINE = 20, 100  # steps of the ratio from 0 to 1: for a drop, and for a speed-up
POINTS_SLACK = 1e-9  # points: 100 * (0.91 - 0.9) is slightly more than 1


def search(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance]
) -> tuple[float, dict[str, float]]:
    """The ratio that meets ``prune.target_speedup`` or ``prune.max_drop``, and the probes.

    Probes are cached, so an interrupted search continues, and one with another bound reuses them.

    Returns:
        The ratio, and by probed ratio the speed-up, or the final model's score on the slice.

    Raises:
        ConfigError: a speed-up that cannot be reached.
    """
    limit = most(dense.value.shapes(), job.cfg.prune.sites)
    if job.cfg.prune.target_speedup is not None:
        return _search_speedup(job, dense, relevance, limit)
    return _search_drop(job, dense, relevance, limit)


def list_ratios(steps: int, limit: float) -> list[float]:
    """The ratios to choose from, ascending: steps of ``1 / steps`` up to ``limit``, without 0."""
    return [i / steps for i in range(1, steps) if i / steps <= limit]


def find_first(ratios: Sequence[float], holds: Callable[[float], bool]) -> int:
    """The index of the first of the ascending ``ratios`` that holds, by bisection.

    ``holds`` is called at most once per ratio; where none does, the index is ``len(ratios)``.
    """
    return bisect_left(ratios, True, key=holds)


def _search_speedup(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance], limit: float
) -> tuple[float, dict[str, float]]:
    target, probes = job.cfg.prune.target_speedup or 1.0, dict[str, float]()
    ratios, device = list_ratios(FINE, limit), str(root_device(job.trainer))

    def is_fast(ratio: float) -> bool:
        def measure() -> Entry:
            timed = compare(dense.value, _cut(job, dense, relevance, ratio), sizes, device)
            return Entry(values={"speedup": timed["speedup"]}, keep=not timed["contended"])

        entry = _probe(job, "speedup", dense, relevance, ratio, timing, measure)
        probes[f"{ratio:g}"] = speedup = entry.values["speedup"]
        log.info("search: ratio %g: %.2fx%s", ratio, speedup, _note(entry))
        return bool(speedup >= target)

    sizes = job.cfg.benchmark
    timing = {"sizes": sizes, "place": find_place(job.cfg.trainer.accelerator)}
    if target == 1:
        return 0.0, {}
    found = find_first(ratios, is_fast)
    if found == len(ratios):
        reach = f"must be between 1 and {int(max(probes.values(), default=1) * 100) / 100}"
        raise ConfigError("prune.target_speedup", target, reach)
    return ratios[found], probes


def _search_drop(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance], limit: float
) -> tuple[float, dict[str, float]]:
    bound, probes = job.cfg.prune.max_drop or 0.0, dict[str, float]()
    whole = score_dense(job, dense).values["select"][job.metric]
    ratios = list_ratios(COARSE, limit)

    def is_beyond(ratio: float) -> bool:
        def train() -> Entry:
            final, _ = retune(job, dense, _cut(job, dense, relevance, ratio), None)
            return Entry(values={"select": score_slice(job, final)})

        training = {"settings": job.cfg.retune, "texts": job.taught}
        entry = _probe(job, "probe", dense, relevance, ratio, training, train)
        probes[f"{ratio:g}"] = entry.values["select"]
        drop = 100 * (whole - entry.values["select"])
        fits = drop <= bound + POINTS_SLACK
        side = "within" if fits else "beyond"
        log.info("search: ratio %g: %.2f points, %s the bound%s", ratio, drop, side, _note(entry))
        return not fits

    found = find_first(ratios, is_beyond)
    if found:
        log.info("search: the largest ratio within %g points is %g", bound, ratios[found - 1])
        return ratios[found - 1], probes
    costs = f"ratio {1 / COARSE} costs more than {bound:g} points"
    why = costs if ratios else f"prune.sites cannot reach ratio {1 / COARSE}"
    log.warning("search: %s: falling back to ratio 0 (no pruning)", why)
    return 0.0, probes


def _note(entry: Entry) -> str:
    return " (cached)" if entry.hit else ""


def _cut(
    job: Job, dense: Keyed[SoftPromptModel], relevance: Keyed[Relevance], ratio: float
) -> SoftPromptModel:
    seed = job.seed("prune")
    return prune(job.trainer, dense.value, relevance.value, job.cfg.prune, ratio, seed).model


def _probe(
    job: Job,
    stage: str,
    dense: Keyed[SoftPromptModel],
    relevance: Keyed[Relevance],
    ratio: float,
    more: dict[str, Any],
    compute: Callable[[], Entry],
) -> Entry:
    """One probe, from the cache or computed, whatever the goal of the search."""
    settings = replace(job.cfg.prune, ratio=ratio, max_drop=None, target_speedup=None)
    cut = [key_settings(settings, settings.allocation), room_code("pruning")]
    key = stage_key(stage, {"dense": dense, "relevance": relevance, "cut": cut, "more": more})
    return job.cache.get(stage, key, compute)
