"""What tune and retune share: one fit of a model's trainable part, on one process or several."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp.cache.store import Entry
from skip_exp.callbacks.curves import Curves, kept, replay
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.config.schema import TrainConfig
from skip_exp.data.batches import Batch
from skip_exp.data.metrics import build_metrics
from skip_exp.job.job import Job
from skip_exp.models.hidden import layer_states, text_means
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training import trainer
from skip_exp.training.hidden import HiddenTargets
from skip_exp.training.length import for_rows, is_improving
from skip_exp.training.module import PromptTuner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """What re-tuning learns from the dense model, beside the labels.

    Attributes:
        taught: tensors with a row per train row: ``teacher``, logits [rows, labels]; ``hidden``,
            the layers' text means [rows, layers, H], scaled.
        hidden: the loss on ``hidden``, if there is one.
    """

    taught: dict[str, Tensor] = field(default_factory=dict)
    hidden: HiddenTargets | None = None


def fit(
    job: Job,
    model: SoftPromptModel,
    settings: TrainConfig,
    phase: str,
    logger: Logger | None,
    teacher: Teacher | None = None,
) -> tuple[KeepBest, Curves]:
    """Train ``model`` in place and restore its best epoch on the selection slice.

    Args:
        phase: prefix of the logged metrics; also determines the seed.
    """
    teacher, settings = teacher or Teacher(), for_rows(settings, len(job.data.train))
    distill = job.cfg.retune.distill if "teacher" in teacher.taught else 0.0
    metrics = build_metrics(job.data.spec)
    tuner = PromptTuner(model, phase, settings, metrics, distill, teacher.hidden)
    data = job.batches(settings, phase, teacher.taught)
    seed, rows = job.seed(phase), len(job.data.select)
    best, curves = trainer.fit(tuner, data, job.trainer, job.metric, seed, logger, rows)
    epochs = settings.epochs or 0  # at most; `for_rows` has set it
    log_kept(job.metric, best.epoch, epochs, best.score)
    if len(curves.points) == epochs and is_improving(curves.points, job.metric):
        log.warning(
            "%s: stopped after %d epochs while still improving: try a larger %s.epochs",
            phase, epochs, settings.phase,
        )  # fmt: skip
    replay(logger, [kept(phase, curves.points, best.epoch)])
    return best, curves


def log_kept(metric: str, epoch: int, epochs: int, score: float, how: str = "kept") -> None:
    """Log the selection score of the epoch that a fit ends with; -1 is the state before it."""
    place = f"{how} epoch {epoch + 1} of {epochs}"
    log.info("%s: %s %.1f on the selection slice", place, metric, 100 * score)


def teacher_of(job: Job, dense: SoftPromptModel) -> Teacher:
    """The teacher of re-tuning, computed once for all ratios."""
    settings, taught, loss = job.cfg.retune, {}, None
    if settings.distill:
        taught["teacher"] = teacher_logits(job, dense)
    if settings.distill_hidden:
        taught["hidden"], loss = teacher_means(job, dense)
    return Teacher(taught, loss)


def teacher_logits(job: Job, dense: SoftPromptModel) -> Tensor:
    """The dense model's logits of every train row [rows, labels]."""

    def compute() -> Entry:
        return Entry({"logits": _of_train_rows(job, dense, lambda model, x: model(**x))})

    return job.stage("teacher", compute).tensors["logits"]


def teacher_means(job: Job, dense: SoftPromptModel) -> tuple[Tensor, HiddenTargets]:
    """The dense model's text means of every train row [rows, layers, H], scaled, and their loss."""

    def compute() -> Entry:
        means = _of_train_rows(job, dense, _means)
        scale = HiddenTargets.of(means, 0.0)
        # About 1 in size, so half precision is enough: 30 MB for 7,000 rows on minilm.
        scaled = scale.scaled(means).half()
        return Entry({"means": scaled, "centre": scale.centre, "spread": scale.spread})

    found = job.stage("hidden", compute).tensors
    weight = job.cfg.retune.distill_hidden
    return found["means"], HiddenTargets(weight, found["centre"], found["spread"])


def _means(model: SoftPromptModel, inputs: Batch) -> Tensor:
    with layer_states(model) as states:
        model(**inputs)
    return text_means(states, inputs["attention_mask"])


def _of_train_rows(
    job: Job, dense: SoftPromptModel, ask: Callable[[SoftPromptModel, Batch], Tensor]
) -> Tensor:
    """``ask(model, inputs)`` for every train row, concatenated in the order of the rows."""
    device = trainer.root_device(job.trainer)
    model = dense.to(device).eval()

    @torch.inference_mode()
    def answer(batch: Batch) -> Tensor:
        on_device = {name: t.to(device) for name, t in batch.items() if name != "labels"}
        return ask(model, on_device)

    return job.batches(job.cfg.retune, "retune").of_train_rows(answer)
