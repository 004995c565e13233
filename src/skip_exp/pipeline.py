"""The job, phase by phase: tune -> attribute -> prune -> retune -> test -> benchmark."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp import results
from skip_exp.cache.store import Entry
from skip_exp.callbacks.attribution import AttributionCallback
from skip_exp.callbacks.curves import Curves
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.callbacks.pruning import PruningCallback
from skip_exp.config.schema import AnyConfig
from skip_exp.data.encode import Batch
from skip_exp.data.metrics import build_metrics
from skip_exp.job import Job, prepare
from skip_exp.logger import build as logs
from skip_exp.logger import picture
from skip_exp.models.cost import flops
from skip_exp.models.soft_prompt import SoftPromptModel, State, load_trainable, trainable_state
from skip_exp.phases import prune as subnetwork
from skip_exp.phases import search
from skip_exp.phases.benchmark import compare
from skip_exp.phases.finish import assemble, keep_sizes, params, skill_about
from skip_exp.pruning import goal as budget
from skip_exp.pruning.allocate import most, shapes
from skip_exp.pruning.surgery import cut
from skip_exp.skill.skill import save_skill
from skip_exp.sweep import attempts
from skip_exp.training import processes as ranks
from skip_exp.training import trainer as tuning
from skip_exp.training.length import TrainSettings
from skip_exp.training.module import PromptTuner
from skip_exp.training.trainer import eval_trainer

log = logging.getLogger(__name__)


@dataclass
class Pruned:
    """What attribution, pruning and re-tuning leave behind."""

    model: SoftPromptModel  # final
    before: State  # prompt and readout after the cut, before re-tuning
    keep: dict[str, Tensor]
    changes: dict[str, Tensor]  # by reconstruction
    ratio: float
    probes: dict[str, float]  # of the search for the ratio, if there was one
    attribution_hit: bool


@dataclass
class Clock:
    """Wall-clock seconds of each phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        log.info("%s ...", name)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def run(cfg: AnyConfig) -> dict[str, Any]:
    """Run one job, unless it is done, and leave result, configuration and skill in its folder.

    Raises:
        SkipError: whatever the user can act on, in one line.
    """
    job = prepare(cfg)
    attempts.write_config(job)
    with job.cache.job(job.job_id) as earlier:
        if cfg.sweep.skip_done and (done := attempts.finished(earlier, job.job_id)):
            return attempts.reuse(job, done)
        attempts.supersede(earlier, cfg)
        result = job.output / results.FILE
        with job.cache.attempt(result), attempts.told_full_disk(job.output):
            return run_phases(job)


def run_phases(job: Job) -> dict[str, Any]:
    """The phases of a job that was not done before."""
    start, clock = time.perf_counter(), Clock()
    logger = logs.build_logger(job.cfg)
    with clock.phase("tune"):
        dense, tuned = tune(job, logger)
    pruned = attribute_prune_retune(job, dense, logger, clock)
    with clock.phase("test"):
        scores = test(job, dense, pruned)
    latency: dict[str, Any] = {}
    if job.benchmark.enabled:
        with clock.phase("benchmark"):
            latency = time_models(job, dense, pruned.model)
    clock.seconds["total"] = time.perf_counter() - start
    return finish(job, logger, dense, pruned, scores, latency, clock, tuned.hit)


def label(job: Job) -> dict[str, Any]:
    """What a reader of the cache is told of an entry."""
    cfg = job.cfg
    names = {"task": cfg.task.name, "backbone": cfg.backbone.name, "prompt": cfg.prompt.kind}
    return names | {"seed": cfg.seed}


def tune(job: Job, logger: Logger | None) -> tuple[SoftPromptModel, Entry]:
    """The dense model: prompt and readout tuned on the frozen backbone, or from the cache."""
    model = job.new_model()
    entry = job.cache.get("tune", job.tune_key, lambda: _tune(job, model, logger), label(job))
    if entry.hit:
        load_trainable(model, entry.tensors)
        logs.replay(logger, entry.values["curves"])
        log.info("tune: cached (best after %d epochs)", entry.values["epoch"] + 1)
    return model, entry


def _tune(job: Job, model: SoftPromptModel, logger: Logger | None) -> Entry:
    best, curves = fit(
        job,
        PromptTuner(model, "tune", job.tune, build_metrics(job.data.spec)),
        job.tune,
        logger,
        [],
    )
    return Entry(trainable_state(model), {"curves": curves.points, "epoch": best.epoch})


def fit(
    job: Job,
    tuner: PromptTuner,
    settings: TrainSettings,
    logger: Logger | None,
    callbacks: list[Callback],
    teacher: Tensor | None = None,
) -> tuple[KeepBest, Curves]:
    """Train ``tuner``; its model ends on the best epoch of the selection slice."""
    run_fit = ranks.fit if job.hardware.devices > 1 else tuning.fit
    data, seed = job.batches(settings, tuner.phase, teacher), job.seed(tuner.phase)
    return run_fit(tuner, data, job.hardware, job.metric, seed, logger, callbacks)


def attribute_prune_retune(
    job: Job, dense: SoftPromptModel, logger: Logger | None, clock: Clock
) -> Pruned:
    """The smaller model, its prompt tuned again; where no ratio is given, one is found first."""
    hits: list[bool] = []
    attribution = AttributionCallback(lambda model: attribute(job, model, hits))
    ratio, probes = budget.ratio(job.cfg.prune), {}
    if ratio is None:
        with clock.phase("search"):
            found = find_ratio(job, dense, attribution)
        ratio, probes = found.ratio, found.probes
        clock.seconds["search"] -= attribution.seconds
    searched = attribution.seconds
    with clock.phase("retune"):
        model, pruning = prune_retune(job, dense, ratio, attribution, logger)
    clock.seconds |= {"attribute": attribution.seconds, "prune": pruning.seconds}
    clock.seconds["retune"] -= attribution.seconds - searched + pruning.seconds
    assert pruning.keep is not None
    state, keep, changes = pruning.pruned_state, pruning.keep, pruning.changes
    return Pruned(model, state, keep, changes, ratio, probes, hits[0])


def prune_retune(
    job: Job,
    dense: SoftPromptModel,
    ratio: float,
    attribution: AttributionCallback,
    logger: Logger | None,
) -> tuple[SoftPromptModel, PruningCallback]:
    """The final model at ``ratio``; both callbacks act before the first step."""
    settings = job.retune_at(ratio)
    taught = settings.enabled and settings.distill
    teacher = dense_logits(job, dense) if taught else None
    prune = partial(subnetwork.prune, job, ratio, partial(retune_between, job, teacher))
    anew = partial(untrained, job) if settings.init == "scratch" else None
    pruning = PruningCallback(attribution, prune, anew)
    tuner = PromptTuner(dense, "retune", settings, build_metrics(job.data.spec))
    if settings.enabled:
        fit(job, tuner, settings, logger, [attribution, pruning], teacher)
    else:
        trainer = eval_trainer(job.hardware, [attribution, pruning])
        trainer.validate(tuner, job.batches(settings, "retune"), verbose=False)
    return tuner.model, pruning


def retune_between(job: Job, teacher: Tensor | None, model: SoftPromptModel, step: int) -> None:
    """``prune.step_epochs`` of re-tuning after a step of pruning that is not the last."""
    settings = replace(job.retune, epochs=job.cfg.prune.step_epochs)
    if settings.epochs:
        model.train_only(settings.train)
        tuner = PromptTuner(model, f"step{step}", settings, build_metrics(job.data.spec))
        fit(job, tuner, settings, None, [], teacher)


def find_ratio(job: Job, dense: SoftPromptModel, attribution: AttributionCallback) -> search.Found:
    """The ratio within ``prune.max_drop``: every probe is pruned, re-tuned and scored on select."""

    def score(model: SoftPromptModel) -> float:
        data = job.batches(job.retune, "test")
        return score_split(job, model, data.val_dataloader())[job.metric]

    def final(ratio: float) -> float:
        return score(prune_retune(job, dense, ratio, attribution, None)[0])

    reach = most(shapes(dense.blocks()), list(job.cfg.prune.sites))
    return search.find(job, reach, score(dense), final, label(job))


def attribute(job: Job, model: SoftPromptModel, hits: list[bool]) -> dict[str, Tensor]:
    """Relevance of every neuron, scored once for all ratios and prune settings."""
    settings = job.cfg.attribution

    def compute() -> Entry:
        batches = subnetwork.calibration(job, model)
        return Entry(job.score(model, batches), {})

    method = results.attribution_name(settings._target_)
    about = label(job) | {"attribution": method}
    entry = job.cache.get("attribute", job.attribution_key, compute, about)
    hits.append(entry.hit)
    return entry.tensors


def untrained(job: Job, keep: dict[str, Tensor]) -> State:
    """What a new prompt and readout of the subnetwork start from."""
    return trainable_state(cut(job.new_model(), keep))


def dense_logits(job: Job, dense: SoftPromptModel) -> Tensor:
    """The dense model's answers to every train row [rows, labels], once for all ratios."""

    def compute() -> Entry:
        device = eval_trainer(job.hardware).strategy.root_device
        model = dense.to(device).eval()

        @torch.inference_mode()
        def answer(batch: Batch) -> Tensor:
            on_device = {name: t.to(device) for name, t in batch.items() if name != "labels"}
            return model(**on_device).cpu()

        return Entry({"logits": job.batches(job.retune, "retune").train_logits(answer)}, {})

    return job.cache.get("teacher", job.tune_key, compute, label(job)).tensors["logits"]


def test(job: Job, dense: SoftPromptModel, pruned: Pruned) -> dict[str, dict[str, Any]]:
    """Scores of the dense, the pruned and the final model on the selection and reported splits."""
    key = job.tune_key | {"extra": list(job.data.spec.extra)}
    entry = job.cache.get("score", key, lambda: Entry({}, evaluate(job, dense)), label(job))
    scores = {"dense": entry.values, "final": evaluate(job, pruned.model)}
    if not job.retune.enabled:
        return scores | {"pruned": scores["final"]}
    final = trainable_state(pruned.model)
    load_trainable(pruned.model, pruned.before)
    scores["pruned"] = evaluate(job, pruned.model)
    load_trainable(pruned.model, final)
    return scores


def evaluate(job: Job, model: SoftPromptModel) -> dict[str, Any]:
    """{select: {metric: value}, validation: ..., extra: {split: ...}} of one model, in fp32."""
    data, score = job.batches(job.retune, "test"), partial(score_split, job, model)
    extra = {split: score(data.extra_dataloader(split)) for split in job.data.spec.extra}
    return {
        "select": score(data.val_dataloader()),
        "validation": score(data.test_dataloader()),
        "extra": extra,
    }


def score_split(job: Job, model: SoftPromptModel, loader: Any) -> dict[str, float]:
    """{metric: value} of one model on the rows of ``loader``, in fp32."""
    tuner = PromptTuner(model, "test", job.retune, build_metrics(job.data.spec))
    return dict(eval_trainer(job.hardware).test(tuner, loader, verbose=False)[0])


def time_models(job: Job, dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, Any]:
    """Latency of both models, side by side, on the device that the trainer uses."""
    device = str(eval_trainer(job.hardware).strategy.root_device)
    return compare(dense, final, job.benchmark, device)


def finish(
    job: Job,
    logger: Logger | None,
    dense: SoftPromptModel,
    pruned: Pruned,
    scores: dict[str, dict[str, Any]],
    latency: dict[str, Any],
    clock: Clock,
    tune_hit: bool,
) -> dict[str, Any]:
    """Write skill and result, mirror them to the logger."""
    about = skill_about(job, scores)
    save_skill(job.output / "skill", pruned.model, pruned.keep, about, pruned.changes)
    sizes = keep_sizes(dense, pruned.keep)
    result = assemble(
        job,
        ratio=pruned.ratio,
        probes=pruned.probes,
        scores=scores,
        params=params(dense, pruned.model),
        flops=[flops(m, job.benchmark.seq_len) for m in (dense, pruned.model)],
        keep_sizes=sizes,
        latency=latency,
        seconds=clock.seconds,
        cache={"tune": _hit(tune_hit), "attribution": _hit(pruned.attribution_hit)},
    )
    picture.log_keep_picture(logger, sizes, job.output / "keep.png")
    logs.log_summary(logger, result)
    results.write(job.output, result)
    return dict(result)


def _hit(hit: bool) -> str:
    return "hit" if hit else "miss"
