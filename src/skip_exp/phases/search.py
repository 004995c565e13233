"""``prune.ratio=auto``: the largest ratio that costs no more than ``prune.max_drop``.

Bisection: as if more pruning never scored better, which noise can make untrue by a step.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from skip_exp.cache.store import Entry
from skip_exp.job import Job

log = logging.getLogger(__name__)

STEPS = 20  # of the ratio, from 0 to 1
SLACK = 1e-9  # points: 100 * (0.91 - 0.9) is a little more than 1


@dataclass(frozen=True)
class Found:
    """The ratio that was found, and how."""

    ratio: float
    probes: dict[str, float]  # ratio -> main metric of its final model on the selection slice


def grid(most: float) -> list[float]:
    """The ratios to choose from, ascending: steps of 0.05 up to ``most``, without 0."""
    return [i / STEPS for i in range(1, STEPS) if i / STEPS <= most]


def largest(ratios: Sequence[float], holds: Callable[[float], bool]) -> float:
    """The last of the ascending ``ratios`` that holds, by bisection; 0 where none does.

    ``holds`` is asked once per ratio at most, and of its answers the one for the ratio returned
    is always True, the one for the next larger ratio False.
    """
    low, high = -1, len(ratios)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(ratios[middle]) else (low, middle)
    return ratios[low] if low >= 0 else 0.0


def find(
    job: Job,
    most: float,
    dense: float,
    final: Callable[[float], float],
    label: dict[str, Any],
) -> Found:
    """The largest ratio of :func:`grid` whose final model stays within ``prune.max_drop``.

    Args:
        most: the largest ratio within reach.
        dense: main metric of the dense model on the selection slice.
        final: (ratio) -> the same of the final model. What it tells is kept in the cache, so that
            a search goes on where it was interrupted, and one with another bound starts there.
        label: what a reader of the cache is told of a probe.
    """
    prune: Any = OmegaConf.to_container(job.cfg.prune, resolve=True)
    bound = prune.pop("max_drop")
    retune = OmegaConf.to_container(job.cfg.retune, resolve=True)
    probes: dict[str, float] = {}

    def holds(ratio: float) -> bool:
        key = job.attribution_key | {"prune": prune | {"ratio": ratio}, "retune": retune}
        entry = job.cache.get(
            "probe", key, lambda: Entry({}, {"select": final(ratio)}), label | {"ratio": ratio}
        )
        score = probes[f"{ratio:g}"] = entry.values["select"]
        drop = 100 * (dense - score)
        fits = drop <= bound + SLACK
        told = "within" if fits else "beyond", "cached" if entry.hit else "probed"
        log.info("search: ratio %g: %.2f points below dense, %s the bound (%s)", ratio, drop, *told)
        return fits

    ratios = grid(most)
    ratio = largest(ratios, holds)
    if ratio:
        log.info("search: the largest ratio within %g points is %g", bound, ratio)
    else:
        costs = f"ratio {1 / STEPS} costs more than {bound:g} points already"
        why = costs if ratios else f"prune.sites cannot reach ratio {1 / STEPS}"
        log.warning("search: %s: ratio 0 it is, nothing is cut", why)
    return Found(ratio, probes)
