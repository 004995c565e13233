"""Finished jobs, opened again: the dense model, its neurons' relevance, and its rows.

All contact with the jobs, phases and cache of the package is in this file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torchmetrics.functional.classification import multiclass_recall

from skip_exp import results
from skip_exp.attribution.observe import logits
from skip_exp.cache.store import Keyed
from skip_exp.config.schema import AttributionConfig, conf_dir, to_object
from skip_exp.config.together import job_config
from skip_exp.data.batches import Row
from skip_exp.errors import SkipError
from skip_exp.models.family import Keep, Relevance
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import shapes_of, site_sizes
from skip_exp.phases.fit import ask, tune
from skip_exp.phases.job import Job
from skip_exp.phases.prepare import method_of, prepare
from skip_exp.phases.prune import attribute
from skip_exp.pruning.allocate import allocate
from skip_exp.results import Result
from studies.anatomy.neurons import Sizes

PLACES = ("output_dir", "sweep", "logger", "cache", "trainer", "benchmark")  # in a configuration


@dataclass(frozen=True)
class Subject:
    """A dense model of finished jobs, which differ in their ratio alone.

    Attributes:
        job: one of the jobs.
        tuned: its dense model.
        results: the finished jobs', by ratio.
        limit: rows that a score is of, at most; None: all.
    """

    job: Job
    tuned: Keyed[SoftPromptModel]
    results: Sequence[Result]
    limit: int | None = None

    @property
    def dense(self) -> SoftPromptModel:
        return self.tuned.value

    @property
    def task(self) -> str:
        return self.job.cfg.task.name

    @property
    def backbone(self) -> str:
        return self.job.cfg.backbone.name

    @property
    def seed(self) -> int:
        return self.job.cfg.seed

    @property
    def about(self) -> dict[str, Any]:
        """What every row about it starts with."""
        return {"task": self.task, "backbone": self.backbone, "seed": self.seed}

    @cached_property
    def sizes(self) -> Sizes:
        return site_sizes(shapes_of(self.dense))

    def draw_seed(self, purpose: str) -> int:
        """A seed for random neurons."""
        return self.job.seed(purpose)

    @cached_property
    def relevance(self) -> Relevance:
        """By the jobs' own attribution."""
        return attribute(self.job, self.tuned)[0].value

    def relevance_by(self, method: str) -> Relevance:
        """By another attribution: see :func:`read_method`."""
        return self._relevance(read_method(method))

    def relevance_from(self, samples: int) -> Relevance:
        """By the jobs' own attribution on another number of train rows."""
        return self._relevance(replace(self.job.cfg.attribution, samples=samples))

    def _relevance(self, settings: AttributionConfig) -> Relevance:
        method = method_of(settings, self.job.seed("attribute"))
        cfg = replace(self.job.cfg, attribution=settings)
        return attribute(replace(self.job, cfg=cfg, method=method), self.tuned)[0].value

    def keep(self, ratio: float, relevance: Relevance | None = None) -> Keep:
        """What stays where ``ratio`` of the block parameters goes, least relevant first."""
        prune = self.job.cfg.prune
        return allocate(
            self.relevance if relevance is None else relevance,
            shapes_of(self.dense),
            ratio=ratio,
            sites=prune.sites,
            allocation=prune.allocation,
            round_to=prune.round_to,
        )

    def rows(self) -> list[Row]:
        """Up to ``limit`` random rows of the selection slice, the same for every model."""
        selected: list[Row] = self.job.data.select
        order = np.random.default_rng(0).permutation(len(selected))[: self.limit]
        return [selected[i] for i in order]

    def balanced(self, model: SoftPromptModel) -> float:
        """The mean recall of the selection slice's classes.

        A constant answer scores one over their number, whichever answer it is. F1 on MRPC gives
        such a model 81 or 0 %.
        """
        rows = self.rows()
        labels = torch.tensor([row["label"] for row in rows])
        answers = ask(self.job.trainer, model, self.job.data, rows, logits, "scoring")
        recalls = multiclass_recall(answers.argmax(-1), labels, answers.shape[1], average="none")
        return float(recalls[labels.unique()].mean())


def read_method(method: str) -> AttributionConfig:
    """The settings of a choice of ``conf/attribution``, with changes after a colon.

    Example:
        >>> read_method("paper:samples=64,options.tokens=sum").samples
        64
    """
    name, _, changes = method.partition(":")
    stored = OmegaConf.load(conf_dir() / f"attribution/{name}.yaml")
    changed = OmegaConf.from_dotlist(changes.split(",") if changes else [])
    return to_object(OmegaConf.merge(stored, changed), AttributionConfig)


def open_subjects(folders: Iterable[Path | str], limit: int | None = None) -> list[Subject]:
    """The subjects of the finished jobs below ``folders``, by backbone, task and seed.

    Their models are on the CPU. The dense ones are those of the cache; others are tuned again.

    Raises:
        SkipError: no finished job, or jobs of different recipes.
    """
    places = [str(folder) for folder in folders]
    once: dict[str, Result] = {}  # a copy of a reused result has its job's id
    for result in results.load(places):
        if result["status"] == "done":
            once.setdefault(result["job_id"], result)
    if not once:
        raise SkipError(f"no finished job below {', '.join(places)}")
    groups: dict[tuple[str, str, int], list[Result]] = {}
    for result in once.values():
        place = (result["backbone"], result["task"], result["seed"])
        groups.setdefault(place, []).append(result)
    return [_open(group, limit) for _, group in sorted(groups.items())]


def _open(group: list[Result], limit: int | None) -> Subject:
    group.sort(key=lambda result: result["ratio"] or 0.0)
    first = group[0]
    for before, result in pairwise(group):
        if result["ratio"] == before["ratio"] or _recipe(result) != _recipe(before):
            paths = f"{before['path']} and {result['path']}"
            raise SkipError(f"{paths}: give jobs that differ in their ratio alone")
    stored = dict(first["config"])
    on_cpu = {"accelerator": "cpu", "precision": first["precision"]}
    stored["trainer"] = {**stored["trainer"], **on_cpu}
    stored["logger"] = {**stored["logger"], "name": "none"}
    job = prepare(job_config(OmegaConf.create(stored)))
    if job.data.is_sample:
        raise SkipError(f"{first['path']}: other rows stand in for those of the task")
    tuned, _ = tune(job)
    tuned.value.eval()
    return Subject(job, tuned, group, limit)


def _recipe(result: Result) -> dict[str, Any]:
    """The settings that a subject's jobs share: all but the ratio and where a job runs."""
    settings = {name: value for name, value in result["config"].items() if name not in PLACES}
    settings["prune"] = {**settings["prune"], "ratio": None}
    return settings
