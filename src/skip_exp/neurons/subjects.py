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

from skip_exp import results
from skip_exp.cache.store import Entry, read_entry
from skip_exp.cache.versions import digest
from skip_exp.config.compose import composed
from skip_exp.config.schema import AttributionConfig, Config, typed
from skip_exp.config.together import job_config
from skip_exp.data.batches import Batch, Row
from skip_exp.data.metrics import build_metrics
from skip_exp.data.module import TextDataModule
from skip_exp.errors import SkipError
from skip_exp.job.job import Job
from skip_exp.job.prepare import method_of, prepare
from skip_exp.models.sites import Keep, Relevance, site_sizes
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable
from skip_exp.neurons.ablate import Means, means
from skip_exp.neurons.choice import Sizes
from skip_exp.phases.attribute import calibration, relevance_of
from skip_exp.pruning.allocate import allocate
from skip_exp.utils import bars

log = logging.getLogger(__name__)

BATCH = 64


@dataclass(frozen=True)
class Subject:
    """A dense model of finished jobs, which differ in their ratio alone.

    Attributes:
        job: one of the jobs.
        dense: its tuned model, uncut.
        paths: the finished results, of every ratio.
        limit: rows that are scored, at most.
    """

    job: Job
    dense: SoftPromptModel
    paths: tuple[Path, ...]
    limit: int

    @property
    def task(self) -> str:
        return self.job.cfg.task.name

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

    @property
    def method(self) -> str:
        """The name of the jobs' own attribution."""
        return self.job.cfg.attribution.name

    @cached_property
    def sizes(self) -> Sizes:
        return site_sizes(self.dense.shapes())

    @cached_property
    def relevance(self) -> Relevance:
        """By the jobs' own method, from the cache where it is there."""
        job = self.job
        return job.stage("attribute", lambda: Entry(relevance_of(job, self.dense))).tensors

    def relevance_by(self, method: str | None = None, samples: int | None = None) -> Relevance:
        """By a choice of ``conf/attribution``, or from another number of train rows."""
        if method in (None, self.method) and samples is None:
            return self.relevance
        settings = self.job.cfg.attribution
        if method is not None:
            settings = _settings(method, settings.samples)
        settings = replace(settings, samples=samples or settings.samples)
        scores = method_of(settings, self.job.seed("attribute"))
        cfg = replace(self.job.cfg, attribution=settings)
        return relevance_of(replace(self.job, cfg=cfg, method=scores), self.dense)

    @cached_property
    def means(self) -> Means:
        """Every neuron's mean activation over the train rows that attribution reads."""
        device = next(self.dense.parameters()).device
        return means(self.dense, calibration(self.job, device))

    def keep(self, ratio: float, relevance: Relevance | None = None) -> Keep:
        """What stays where ``ratio`` of the block parameters goes, least relevant first."""
        prune, relevance = self.job.cfg.prune, relevance or self.relevance
        return allocate(
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
        """The answers [rows, labels] of a model of this backbone to the rows of a split."""
        rows = self.rows(split)
        data = TextDataModule(self.job.data, BATCH, 0, eval_batch=BATCH, rows=rows)
        is_mixed = self.job.trainer.precision == "bf16-mixed"

        @torch.inference_mode()
        def answer(batch: Batch) -> Tensor:
            inputs = {name: t for name, t in batch.items() if name != "labels"}
            with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
                return model(**inputs).float()

        return data.of_rows(answer, "scoring")

    def labels(self, split: str = "select") -> Tensor:
        """Class indices of the rows of a split."""
        return torch.tensor([row["label"] for row in self.rows(split)])

    def score(self, model: SoftPromptModel, split: str = "select") -> float:
        """The task's main metric."""
        return self.metric(self.logits(model, split), split)

    def metric(self, logits: Tensor, split: str) -> float:
        """The main metric of answers to the rows of a split."""
        metrics = build_metrics(self.job.data.spec)
        metrics.update(logits.argmax(-1), self.labels(split))
        return float(metrics.compute()[self.job.metric])


def _settings(method: str, samples: int) -> AttributionConfig:
    """The settings of ``conf/attribution/METHOD.yaml``. Raises SkipError where there is none."""
    found = composed("config", [f"attribution={method}"]).attribution
    return replace(typed(found, AttributionConfig), samples=samples)


def opened(folders: Iterable[Path | str], limit: int) -> Iterator[Subject]:
    """The subjects of the finished jobs below ``folders``, by backbone, task and seed.

    Raises:
        SkipError: no finished job, one of another version of skip_exp, or its rows, its backbone or
            the cached dense model are gone.
    """
    found = [r for r in results.load(list(folders)) if r["status"] == "done"]
    if not found:
        where = ", ".join(map(str, folders))
        raise SkipError(f"no finished job below {where}: run one first")
    jobs: dict[str, tuple[Job, list[Path]]] = {}
    for result in sorted(found, key=_place):
        path = Path(result["path"])
        with _quiet():
            job = prepare(_config(path, result["config"]))
        jobs.setdefault(digest(job.keys["attribute"]), (job, []))[1].append(path)
    for job, paths in bars.counted(jobs.values(), "opening"):
        yield Subject(job, _dense(job, paths[0]), tuple(paths), limit)


def _place(result: dict[str, Any]) -> tuple[str, str, int, float]:
    return (result["backbone"], result["task"], result["seed"], result["ratio"] or 0.0)


def _config(path: Path, stored: Any) -> Config:
    try:
        return job_config(OmegaConf.create(dict(stored)))
    except (OmegaConfBaseException, SkipError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise SkipError(f"{path}: written by another version of skip_exp: {reason}") from error


def _dense(job: Job, path: Path) -> SoftPromptModel:
    """The dense model from the cache; nothing is trained."""
    model = job.new_model()
    if job.cfg.tune.train != "none":
        entry = _trained(job)
        if entry is None:
            where = f"cache.dir={job.cfg.cache.dir}"
            raise SkipError(f"{path}: its dense model is not in the cache, {where}: run it again")
        load_trainable(model, entry.tensors)
    return model.eval()


def _trained(job: Job) -> Entry | None:
    """The newest entry of the job's tune, by whatever version of the code."""
    key, folder = json.loads(_as_json(job.keys["tune"])), job.cache.folder
    found = sorted((folder / "tune").glob("*.safetensors"), key=_age) if folder else []
    for file in found:
        with suppress(OSError, SafetensorError, ValueError, KeyError), safe_open(file, "pt") as f:
            if json.loads(f.metadata()["json"])["about"]["key"] == key:
                return read_entry(file)
    return None


def _as_json(key: Any) -> str:
    return json.dumps(key, default=str)


def _age(file: Path) -> float:
    return -file.stat().st_mtime


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of a job that starts."""
    logger = logging.getLogger("skip_exp.job.prepare")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
