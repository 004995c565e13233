"""``prune.ratio=auto``: the largest ratio that costs no more than ``prune.max_drop``.

Bisection assumes that more pruning never scores better, which noise can violate by a step.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from skip_exp.cache.store import Entry
from skip_exp.job.job import Job
from skip_exp.models.sites import Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.prune import prune
from skip_exp.phases.retune import retune
from skip_exp.phases.test import select_score
from skip_exp.pruning.allocate import most

log = logging.getLogger(__name__)

STEPS = 20  # of the ratio, from 0 to 1
SLACK = 1e-9  # points: 100 * (0.91 - 0.9) is slightly more than 1


def grid(most: float) -> list[float]:
    """The ratios to choose from, ascending: steps of 0.05 up to ``most``, without 0."""
    return [i / STEPS for i in range(1, STEPS) if i / STEPS <= most]


def largest(ratios: Sequence[float], holds: Callable[[float], bool]) -> float:
    """The last of the ascending ``ratios`` that holds, by bisection; 0 where none does.

    ``holds`` is called at most once per ratio: it was True for the returned ratio and False for the
    next larger one.
    """
    first = bisect_left(ratios, True, key=lambda ratio: not holds(ratio))  # that does not hold
    return ratios[first - 1] if first else 0.0


def search(
    job: Job, dense: SoftPromptModel, relevance: Relevance
) -> tuple[float, dict[str, float]]:
    """The largest ratio whose final model stays within ``prune.max_drop``.

    Every probe is pruned, re-tuned and scored on the selection slice. Scores are cached, so an
    interrupted search continues, and one with another bound reuses them.

    Returns:
        The ratio, and the probes: ratio -> main metric of its final model on the selection slice.
    """
    ratios = grid(most(dense.shapes(), job.cfg.prune.sites))
    ask = partial(probe, job, dense, relevance)
    return within(ratios, select_score(job, dense), job.cfg.prune.max_drop or 0.0, ask)


def within(
    ratios: Sequence[float],
    dense: float,
    bound: float,
    ask: Callable[[float], tuple[float, bool]],
) -> tuple[float, dict[str, float]]:
    """The largest of the ascending ``ratios`` that costs at most ``bound`` points; 0 if none does.

    Args:
        dense: score of the dense model, a fraction.
        ask: (ratio) -> score of its final model, and whether it was cached.
    """
    probes: dict[str, float] = {}

    def holds(ratio: float) -> bool:
        score, hit = ask(ratio)
        probes[f"{ratio:g}"] = score
        drop = 100 * (dense - score)
        fits = drop <= bound + SLACK
        message = f"{drop:.2f} points below dense, {'within' if fits else 'beyond'} the bound"
        log.info("search: ratio %g: %s%s", ratio, message, " (cached)" if hit else "")
        return fits

    ratio = largest(ratios, holds)
    if ratio:
        log.info("search: the largest ratio within %g points is %g", bound, ratio)
    else:
        costs = f"ratio {1 / STEPS} costs more than {bound:g} points"
        why = costs if ratios else f"prune.sites cannot reach ratio {1 / STEPS}"
        log.warning("search: %s: falling back to ratio 0 (no pruning)", why)
    return ratio, probes


def probe(
    job: Job, dense: SoftPromptModel, relevance: Relevance, ratio: float
) -> tuple[float, bool]:
    """Select score of the final model at ``ratio``, and whether it was cached."""

    def compute() -> Entry:
        final, _ = retune(job, dense, prune(job, dense, relevance, ratio), None)
        return Entry(values={"select": select_score(job, final)})

    settings = asdict(job.cfg.prune) | {"ratio": ratio, "max_drop": None}
    entry = job.cache.get("probe", job.keys["probe"] | {"prune": settings}, compute)
    return entry.values["select"], entry.hit
