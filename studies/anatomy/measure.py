"""The parts of an anatomy, each a table with a row per measured number.

A removed neuron outputs zero. The protocol is that of Wang et al. (2022, "Finding Skill Neurons"):
remove neurons by relevance, beside a random control of equal size, and score the task again.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from skip_exp.models.family import Keep, Relevance, Site
from skip_exp.models.surgery import block_parameters, cut
from studies.anatomy.jobs import Subject
from studies.anatomy.neurons import draw, invert, overlap, pick, reverse

log = logging.getLogger(__name__)

FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # of the block parameters: what a curve removes
CONTROL = "random, as many a layer"
DRAWS = 2  # of the control of the causal matrix, others for each pair of tasks and seed
SAMPLES = 64  # train rows of the attribution that is compared with the jobs' own
Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        ratio: a task's skill neurons are what this cut leaves.
        methods: attributions of the curves; the control has the first one's numbers per layer.
    """

    ratio: float = 0.9
    methods: Sequence[str] = ("activation_gradient",)


def where(subjects: Sequence[Subject], _: Options) -> Iterator[Row]:
    """``kept`` of ``of`` neurons by task, seed, ratio, kind and layer, of the finished jobs."""
    for subject in subjects:
        for result in subject.results:
            for name, (kept, of) in result["keep_sizes"].items():
                site = Site(name)
                place = {"ratio": result["ratio"], "kind": site.like, "layer": site.sublayer.layer}
                yield {**subject.about, **place, "kept": kept, "of": of}


def ablation(subjects: Sequence[Subject], options: Options) -> Iterator[Row]:
    """Balanced accuracy of the dense model while neurons go, before any re-tuning.

    Columns: ``by`` (the method), ``first`` (the least or the most relevant), ``removed`` (fraction
    of the block parameters) and ``score``. CONTROL removes as many random neurons of each layer:
    its curves are those of the layers alone.
    """
    for subject in subjects:
        dense = subject.balanced(subject.dense)
        for by, first, keeps in _orders(subject, options.methods):
            about = {**subject.about, "by": by, "first": first}
            yield {**about, "removed": 0.0, "score": dense}
            for keep in keeps:
                smaller = cut(subject.dense, keep)
                left = block_parameters(smaller) / block_parameters(subject.dense)
                yield {**about, "removed": round(1 - left, 4), "score": subject.balanced(smaller)}
            log.info("%s, seed %d: by %s, %s first", subject.task, subject.seed, by, first)


def _orders(subject: Subject, methods: Sequence[str]) -> Iterator[tuple[str, str, list[Keep]]]:
    """(method, which goes first, what stays at each of FRACTIONS)."""
    for by in methods:
        relevance = subject.relevance_by(by)
        for first, scores in (("least", relevance), ("most", reverse(relevance))):
            keeps = [subject.keep(fraction, scores) for fraction in FRACTIONS]
            yield by, first, keeps
            if by == methods[0]:
                seed = subject.draw_seed(subject.task)
                yield CONTROL, first, [draw(keep, subject.sizes, seed) for keep in keeps]


def overlaps(subjects: Sequence[Subject], options: Options) -> Iterator[Row]:
    """How far two choices at ``options.ratio`` agree beyond chance, by ``kind`` of neuron.

    ``between``: ``jobs``, each two of one backbone; ``samples``, a job's own choice and that by
    the same attribution on ``other`` train rows.
    """
    keeps = [subject.keep(options.ratio) for subject in subjects]
    for i, j in combinations_with_replacement(range(len(subjects)), 2):
        a, b = subjects[i], subjects[j]
        if a.backbone == b.backbone and a.sizes == b.sizes:
            about = {"between": "jobs", **a.about, "other task": b.task, "other seed": b.seed}
            yield from _overlap_by_kind(a, keeps[i], keeps[j], about)
    for subject, keep in zip(subjects, keeps, strict=True):
        fewer: Relevance = subject.relevance_from(SAMPLES)
        about = {"between": "samples", **subject.about, "other": SAMPLES}
        yield from _overlap_by_kind(subject, keep, subject.keep(options.ratio, fewer), about)


def _overlap_by_kind(subject: Subject, a: Keep, b: Keep, about: Row) -> Iterator[Row]:
    """Heads are few, and would not count beside the units."""
    for kind in dict.fromkeys(Site(site).like for site in a):
        shared = overlap(pick(a, kind), pick(b, kind), subject.sizes)
        yield {**about, "kind": kind, "overlap": shared}


def causal(subjects: Sequence[Subject], options: Options) -> Iterator[Row]:
    """What one task's skill neurons do for another: its dense model is scored without them.

    ``cut``: the task whose skill neurons go. ``task``: the one that is scored, with its own prompt.
    ``random``: the mean score where as many random neurons of each layer go. ``harm``: random minus
    score, so what these neurons did for the task beyond any others.
    """
    for task in subjects:
        dense = task.balanced(task.dense)
        for owner in subjects:
            if (owner.backbone, owner.seed, owner.sizes) != (task.backbone, task.seed, task.sizes):
                continue
            skill = owner.keep(options.ratio)
            score = _score_without(task, skill)
            controls = []
            for number in range(DRAWS):
                seed = task.draw_seed(f"{task.task} {owner.task} {number}")
                controls.append(_score_without(task, draw(skill, task.sizes, seed)))
            random = float(np.mean(controls))
            found = {"score": score, "random": random, "dense": dense, "harm": random - score}
            yield {**task.about, "cut": owner.task, **found}
        log.info("causal: %s, seed %d", task.task, task.seed)


def _score_without(task: Subject, neurons: Keep) -> float:
    return task.balanced(cut(task.dense, invert(neurons, task.sizes)))


MEASURES: dict[str, Callable[[Sequence[Subject], Options], Iterator[Row]]] = {
    "where": where,
    "ablation": ablation,
    "overlap": overlaps,
    "causal": causal,
}
