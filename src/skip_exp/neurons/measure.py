"""The parts of an anatomy, each a tidy table with a row per measured number."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skip_exp.job.job import phase_seed
from skip_exp.models.sites import Keep, Relevance, Site
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.neurons import calibration
from skip_exp.neurons.ablate import Means, reverse, without
from skip_exp.neurons.choice import drawn, others, overlap
from skip_exp.neurons.subjects import Subject
from skip_exp.pruning.surgery import cut
from skip_exp.skill.skill import Skill

log = logging.getLogger(__name__)

FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)  # of the block parameters: what a curve removes
FIRST = ("least", "most")  # relevant, which goes first
CONTROL = "random, as many a layer"
DRAWS = 2  # of a random control of the causal matrix, others for each pair of tasks and seed
SAY_NOTHING = {"false", "true", "no", "yes", "0", "1"}  # labels that any task may have
SAMPLES = (32, 64, 128, 512, 1024)  # train rows of an attribution


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        ratio: a task's skill neurons are what this cut leaves.
        methods: attributions beside the jobs' own.
    """

    ratio: float = 0.9
    methods: Sequence[str] = ("magnitude",)

    def every(self, subject: Subject) -> list[str]:
        """The methods of a subject, its own first."""
        return list(dict.fromkeys([subject.method, *self.methods]))


def where(subjects: Sequence[Subject], _: Options) -> pd.DataFrame:
    """``kept`` of ``of`` neurons by task, seed, ratio, kind and layer, of the finished jobs."""
    rows = []
    for subject in subjects:
        for result in subject.results:
            for name, (kept, of) in result["keep_sizes"].items():
                site = Site(name)
                place = {"ratio": result["ratio"], "kind": site.like, "layer": site.sublayer.layer}
                rows.append({**subject.about, **place, "kept": kept, "of": of})
    return pd.DataFrame(rows)


def ablation(subjects: Sequence[Subject], options: Options) -> pd.DataFrame:
    """Balanced accuracy of the dense model while neurons go, before any re-tuning.

    Columns: ``by`` (the method), ``first`` (the most or the least relevant), ``answer`` (what a
    removed neuron says: zero or its mean), ``removed`` and ``score``. The control CONTROL removes
    as many neurons of each layer as the jobs' own method does, drawn at random: its area is that of
    the layers alone.
    """
    return pd.DataFrame([row for subject in subjects for row in _curves(subject, options)])


def _curves(subject: Subject, options: Options) -> Iterator[dict[str, Any]]:
    dense = subject.balanced(subject.dense)
    for by, first, keeps in _orders(subject, options):
        for answer, said in _answers(subject).items():
            about = {**subject.about, "by": by, "first": first, "answer": answer}
            yield {**about, "removed": 0.0, "score": dense}
            for keep in keeps:
                smaller = without(subject.dense, keep, said)
                left = smaller.block_parameters() / subject.dense.block_parameters()
                removed = round(1 - left, 4)
                yield {**about, "removed": removed, "score": subject.balanced(smaller)}
        log.info("ablation: %s, seed %d, by %s, %s first", subject.task, subject.seed, by, first)


def _answers(subject: Subject) -> dict[str, Means | None]:
    """What a removed neuron says."""
    return {"zero": None, "mean": subject.means}


def _orders(subject: Subject, options: Options) -> Iterator[tuple[str, str, list[Keep]]]:
    """(method, which goes first, what stays at each of FRACTIONS)."""
    for by in options.every(subject):
        relevance = subject.relevance_by(by)
        for first in FIRST:
            keeps = _keeps(subject, relevance if first == "least" else reverse(relevance))
            yield by, first, keeps
            if by == subject.method:
                seed = phase_seed(subject.seed, subject.task)
                yield CONTROL, first, [drawn(keep, subject.sizes, seed) for keep in keeps]


def _keeps(subject: Subject, relevance: Relevance) -> list[Keep]:
    parts = [part for part in FRACTIONS if part <= subject.most]
    return [subject.keep(part, relevance) for part in parts]


def areas(curves: pd.DataFrame) -> pd.DataFrame:
    """The area between the curves of both orders, least minus most relevant first, as ``area``.

    A choice that says nothing has 0. The area is divided by the width of the curves, so it is in
    units of the score.
    """
    keys = ["task", "backbone", "seed", "by", "answer"]
    rows = []
    for names, group in curves.groupby(keys, sort=False):
        area = {}
        for first, part in group.groupby("first"):
            part = part.sort_values("removed")
            width = part["removed"].max() - part["removed"].min()
            area[first] = float(np.trapezoid(part["score"], part["removed"])) / width
        rows.append(dict(zip(keys, names, strict=True)) | {"area": area["least"] - area["most"]})
    return pd.DataFrame(rows)


def overlaps(subjects: Sequence[Subject], options: Options) -> pd.DataFrame:
    """How far two choices at ``options.ratio`` agree beyond chance, by ``kind`` of neuron.

    ``between``: ``jobs``, of each two of them, on one backbone; ``methods``, of a job's own and
    another one; ``samples``, of its own number of train rows and another one. The other side of a
    pair is ``other task`` and ``other seed``, or ``other``.
    """
    rows: list[dict[str, Any]] = []
    keeps = [subject.keep(options.ratio) for subject in subjects]
    pairs = combinations_with_replacement(range(len(subjects)), 2)
    for i, j in pairs:
        a, b = subjects[i], subjects[j]
        if a.backbone == b.backbone and a.sizes == b.sizes:
            about = {"between": "jobs", **a.about, "other task": b.task, "other seed": b.seed}
            rows += [about | found for found in _shared(a, keeps[i], keeps[j])]
    for subject, keep in zip(subjects, keeps, strict=True):
        for between, name, relevance in _alternatives(subject, options):
            about = {"between": between, **subject.about, "other": name}
            other = subject.keep(options.ratio, relevance)
            rows += [about | found for found in _shared(subject, keep, other)]
    found = pd.DataFrame(rows)
    return found.astype({"other seed": "Int64"}) if len(found) else found


def _shared(subject: Subject, a: Keep, b: Keep) -> Iterator[dict[str, Any]]:
    """Overlap by kind: heads are few, and would not count beside the units."""
    for kind in dict.fromkeys(Site(site).like for site in a):
        one, other = ({s: k for s, k in keep.items() if Site(s).like == kind} for keep in (a, b))
        yield {"kind": kind, "overlap": overlap(one, other, subject.sizes)}


def _alternatives(subject: Subject, options: Options) -> Iterator[tuple[str, str, Relevance]]:
    """(between, name, relevance) of the other ways to choose a job's neurons."""
    for name in [*options.every(subject)[1:], "random"]:
        yield "methods", name, subject.relevance_by(name)
    own, most = subject.job.cfg.attribution.samples, len(subject.job.data.train)
    for n in SAMPLES:
        if n != own and n <= most:
            yield "samples", str(n), subject.relevance_by(samples=n)


def causal(subjects: Sequence[Subject], options: Options) -> pd.DataFrame:
    """Balanced accuracy of a task without another's skill neurons, on one backbone and seed.

    ``cut``: the task whose skill neurons go, i.e. what a cut of ``options.ratio`` would leave of
    it. ``task``: the one that is scored, with its own prompt. ``answer``: what the removed ones
    say, zero or their mean. ``random``: the mean score where as many random neurons of each layer
    go; ``harm``: random minus score, so what these neurons did for the task beyond any others.
    """
    rows = []
    for task in subjects:
        dense = task.balanced(task.dense)
        for owner in subjects:
            if (owner.backbone, owner.seed, owner.sizes) != (task.backbone, task.seed, task.sizes):
                continue
            skill, pair = owner.keep(options.ratio), f"{task.task} {owner.task}"
            seeds = [phase_seed(task.seed, f"{pair} {draw}") for draw in range(DRAWS)]
            controls = [drawn(skill, task.sizes, seed) for seed in seeds]
            for answer, said in _answers(task).items():
                score = _without(task, skill, said)
                random = float(np.mean([_without(task, control, said) for control in controls]))
                found = {"score": score, "random": random, "dense": dense, "harm": random - score}
                rows.append({**task.about, "cut": owner.task, "answer": answer, **found})
        log.info("causal: %s, seed %d", task.task, task.seed)
    return pd.DataFrame(rows)


def _without(task: Subject, neurons: Keep, said: Means | None) -> float:
    return task.balanced(without(task.dense, others(neurons, task.sizes), said))


def calibrated(subjects: Sequence[Subject], _: Options) -> pd.DataFrame:
    """Per state and ratio the reliability diagram on the validation split, with its ``error``.

    One row per bin: ``confidence``, ``accuracy``, ``rows``; ``error``, the expected calibration
    error, is of the state.
    """
    parts = []
    for subject in subjects:
        for state, ratio, model in _states(subject):
            answered = calibration.probabilities(subject.logits(model, "validation"))
            labels = subject.labels("validation")
            found = calibration.reliability(answered, labels)
            about = {**subject.about, "state": state, "ratio": ratio}
            error = {"error": calibration.error(answered, labels)}
            parts.append(pd.DataFrame({**about, **error}, index=found.index).join(found))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def abroad(subjects: Sequence[Subject], _: Options) -> pd.DataFrame:
    """Main metric of a task's models on the validation rows of another task with its labels."""
    rows = []
    for subject in subjects:
        for other in subjects:
            if other.task != subject.task and _is_alike(subject, other):
                for state, ratio, model in _states(subject):
                    about = {**subject.about, "on": other.task, "state": state, "ratio": ratio}
                    score = other.score(model, "validation")
                    rows.append({**about, "metric": other.job.metric, "score": score})
    return pd.DataFrame(rows)


def _is_alike(a: Subject, b: Subject) -> bool:
    """Whether two tasks ask the same: their labels say what about, and are the same."""
    ours, theirs = a.job.data.spec, b.job.data.spec
    same = (a.backbone, a.seed) == (b.backbone, b.seed)
    says = not {label.lower() for label in ours.labels} & SAY_NOTHING
    return same and says and ours.labels == theirs.labels and len(ours.text) == len(theirs.text)


def _states(subject: Subject) -> Iterator[tuple[str, float, SoftPromptModel]]:
    """dense once, then pruned and final of every finished ratio."""
    yield "dense", 0.0, subject.dense
    for result in subject.results:
        ratio, skill = result["ratio"], Skill.load(Path(result["path"]).parent / result["skill"])
        if ratio:
            yield "pruned", ratio, cut(subject.dense, skill.keep)
        yield "final", ratio or 0.0, skill.model


PARTS: dict[str, Callable[[Sequence[Subject], Options], pd.DataFrame]] = {
    "where": where,
    "ablation": ablation,
    "overlap": overlaps,
    "causal": causal,
    "calibration": calibrated,
    "abroad": abroad,
}


def measured(
    subjects: Sequence[Subject], options: Options, parts: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """The asked-for tables by name."""
    return {name: PARTS[name](subjects, options) for name in PARTS if name in parts}
