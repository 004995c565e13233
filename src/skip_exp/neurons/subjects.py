"""Finished jobs, opened again: the dense model, its neurons' relevance, and its rows."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchmetrics.functional.classification import multiclass_recall

from skip_exp import results
from skip_exp.attribution.observe import logits
from skip_exp.cache.store import Entry, read_entry
from skip_exp.cache.versions import digest
from skip_exp.config.schema import AttributionConfig, Config, conf_dir, typed
from skip_exp.config.together import job_config
from skip_exp.data.batches import Row
from skip_exp.data.metrics import build_metrics
from skip_exp.errors import ConfigError, SkipError, first_line
from skip_exp.job.job import Job
from skip_exp.job.prepare import method_of, prepare
from skip_exp.models.sites import Keep, Relevance, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable
from skip_exp.neurons.ablate import Means, means
from skip_exp.neurons.choice import Sizes
from skip_exp.phases.attribute import calibration, relevance_of
from skip_exp.phases.fit import answers
from skip_exp.pruning import allocate
from skip_exp.results import Result
from skip_exp.utils import bars

log = logging.getLogger(__name__)

STAND_IN = " *stand-in*"  # after the name of a task whose rows are another's
FAR = 0.02  # from its result: the score of a dense model that is another one


@dataclass(frozen=True)
class Subject:
    """A dense model of finished jobs, which differ in their ratio alone.

    Attributes:
        job: one of the jobs.
        dense: its tuned model, uncut.
        results: the finished jobs', by ratio.
        limit: rows that are scored, at most.
    """

    job: Job
    dense: SoftPromptModel
    results: tuple[Result, ...]
    limit: int

    @property
    def task(self) -> str:
        return self.job.cfg.task.name + STAND_IN * self.job.data.is_sample

    @property
    def backbone(self) -> str:
        return self.job.cfg.backbone.label

    @property
    def seed(self) -> int:
        return self.job.cfg.seed

    @property
    def about(self) -> dict[str, Any]:
        """What every row about it starts with."""
        return {"task": self.task, "backbone": self.backbone, "seed": self.seed}

    @cached_property
    def method(self) -> str:
        """The jobs' own attribution: a choice of ``conf/attribution``, or the method's name."""
        own = self.job.cfg.attribution
        for name in methods():
            choice = settings_of(name)
            if (choice._target_, choice.options) == (own._target_, own.options):
                return name
        return f"{own.name}, own options"

    @cached_property
    def sizes(self) -> Sizes:
        return site_sizes(self.dense.shapes())

    @property
    def most(self) -> float:
        """The largest ratio that the jobs' sites can reach."""
        return allocate.most(self.dense.shapes(), self.job.cfg.prune.sites)

    @cached_property
    def relevance(self) -> Relevance:
        """By the jobs' own method."""
        return relevance_of(self.job, self.dense)

    def relevance_by(self, method: str | None = None, samples: int | None = None) -> Relevance:
        """By another method (see :func:`settings_of`), or from another number of train rows."""
        if method in (None, self.method) and samples is None:
            return self.relevance
        own = self.job.cfg.attribution
        settings = own if method in (None, self.method) else settings_of(str(method))
        settings = replace(settings, samples=samples or settings.samples)
        scores = method_of(settings, self.job.seed("attribute"))
        cfg = replace(self.job.cfg, attribution=settings)
        return relevance_of(replace(self.job, cfg=cfg, method=scores), self.dense)

    @cached_property
    def means(self) -> Means:
        """Every neuron's mean activation over the train rows that attribution reads."""
        return means(self.dense, calibration(self.job, torch.device("cpu")))

    def keep(self, ratio: float, relevance: Relevance | None = None) -> Keep:
        """What stays where ``ratio`` of the block parameters goes, least relevant first."""
        prune, relevance = self.job.cfg.prune, relevance or self.relevance
        return allocate.allocate(
            relevance,
            self.dense.shapes(),
            ratio=ratio,
            sites=prune.sites,
            allocation=prune.allocation,
            round_to=prune.round_to,
        )

    def rows(self, split: str) -> list[Row]:
        """Up to ``limit`` random rows of ``select`` or ``validation``, the same for every model."""
        every: list[Row] = getattr(self.job.data, split)
        drawn = np.random.default_rng(0).permutation(len(every))[: self.limit]
        return [every[i] for i in drawn]

    def logits(self, model: SoftPromptModel, split: str = "select") -> Tensor:
        """The answers [rows, labels] of a model of this backbone to rows of a split, in fp32."""
        return answers(self.job, model, self.rows(split), logits, "scoring")

    def labels(self, split: str = "select") -> Tensor:
        """Class indices of the rows of a split."""
        return torch.tensor([row["label"] for row in self.rows(split)])

    def balanced(self, model: SoftPromptModel) -> float:
        """The mean recall of the selection slice's classes.

        A model that always answers the same has one over their number, whichever answer it is. F1
        on MRPC gives such a model 81 or 0 %.
        """
        labels, logits = self.labels(), self.logits(model)
        recalls = multiclass_recall(logits.argmax(-1), labels, logits.shape[1], average="none")
        return float(recalls[labels.unique()].mean())

    def score(self, model: SoftPromptModel, split: str = "select") -> float:
        """The task's main metric."""
        metrics = build_metrics(self.job.data.spec)
        metrics.update(self.logits(model, split).argmax(-1), self.labels(split))
        return float(metrics.compute()[self.job.metric])


def methods() -> list[str]:
    """The choices of ``conf/attribution``."""
    return sorted(file.stem for file in (conf_dir() / "attribution").glob("*.yaml"))


def settings_of(method: str) -> AttributionConfig:
    """The settings of a choice of ``conf/attribution``, with changes after a colon.

    Example:
        >>> settings_of("paper:samples=64,options.tokens=sum").samples
        64

    Raises:
        SkipError: an unknown choice or key, or a value that is not allowed.
    """
    name, _, changes = method.partition(":")
    if name not in methods():
        raise SkipError(f"methods={method}: must be some of {', '.join(methods())}")
    try:
        changed = OmegaConf.from_dotlist(changes.split(",") if changes else [])
        whole = OmegaConf.merge(OmegaConf.load(conf_dir() / f"attribution/{name}.yaml"), changed)
        settings = typed(whole, AttributionConfig)
        method_of(settings, seed=0)
        return settings
    except (OmegaConfBaseException, ConfigError) as error:
        raise SkipError(f"methods={method}: {first_line(error)}") from error


def opened(folders: Iterable[Path | str], limit: int) -> Iterator[Subject]:
    """The subjects of the finished jobs below ``folders``, by backbone, task and seed.

    All of them stay on the CPU, whatever the jobs ran on.

    Raises:
        SkipError: no finished job, one of another version of skip_exp, two jobs of one task,
            backbone and seed that differ in more than their ratio, or rows, a backbone or a cached
            dense model that are gone.
    """
    places = [str(folder) for folder in folders]
    found = [result for result in results.load(places) if result["status"] == "done"]
    if not found:
        raise SkipError(f"no finished job below {', '.join(places)}: run one first")
    once = {result["job_id"]: result for result in reversed(found)}.values()
    groups: dict[Any, tuple[str, Job, list[Result]]] = {}
    for result in sorted(once, key=_place):
        with _quiet():
            job = prepare(_config(result))
        prune = job.cfg.prune
        cut = [*prune.sites, prune.allocation, prune.round_to]
        same = digest({"key": job.keys["attribute"], "cut": cut})
        of, _, beside = groups.setdefault(_place(result)[:3], (same, job, []))
        if of != same or any(other["ratio"] == result["ratio"] for other in beside):
            raise SkipError(
                f"{result['path']} and {beside[0]['path']}: two jobs of the same task, backbone "
                "and seed that differ in more than their ratio, or of two versions of the code: "
                "give the folders of one recipe"
            )
        beside.append(result)
    for _, job, of_job in bars.bar(len(groups), "opening", groups.values()):
        yield Subject(job, _dense(job, of_job[0]), tuple(of_job), limit)


def _place(result: Result) -> tuple[str, str, int, float]:
    return (result["backbone"], result["task"], result["seed"], result["ratio"] or 0.0)


def _config(result: Result) -> Config:
    """The job's configuration, for the CPU."""
    stored = dict(result["config"])
    stored["trainer"] = {
        **stored.get("trainer", {}),
        **{"accelerator": "cpu", "precision": "32-true", "devices": 1},
    }
    try:
        return job_config(OmegaConf.create(stored))
    except (OmegaConfBaseException, SkipError) as error:
        why = f"written by another version of skip_exp: {first_line(error)}"
        raise SkipError(f"{result['path']}: {why}") from error


def _dense(job: Job, result: Result) -> SoftPromptModel:
    """The dense model from the cache; nothing is trained."""
    model = job.new_model()
    if job.cfg.tune.train != "none":
        entry = _trained(job, result)
        if entry is None:
            where = f"cache.dir={job.cfg.cache.dir}"
            why = f"its dense model is not in the cache, {where}: run it again with a cache"
            raise SkipError(f"{result['path']}: {why}")
        load_trainable(model, entry.tensors)
    return model.eval()


def _trained(job: Job, result: Result) -> Entry | None:
    """The tuned state in the cache, by whatever version of the code, that scored as the result."""
    key = json.loads(json.dumps(job.keys["tune"] | {"precision": result["precision"]}, default=str))
    folder, best, least = job.cache.folder, None, FAR
    for file in (folder / "tune").glob("*.safetensors") if folder else ():
        with suppress(OSError, SafetensorError, ValueError, KeyError):
            with safe_open(file, "pt") as opened:
                about = json.loads(opened.metadata()["json"])
            off = abs(about["values"]["score"] - result["select"]["dense"])
            if about["about"]["key"] == key and off <= least:
                best, least = file, off
    return read_entry(best) if best else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of a job that starts."""
    logger = logging.getLogger("skip_exp.job")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
