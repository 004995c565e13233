"""What tune and retune share: one fit of a model's trainable part, on one process or several."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp.cache.store import Entry
from skip_exp.callbacks.curves import Curves, kept, replay
from skip_exp.callbacks.keep_last import KeepLast
from skip_exp.config.train import TrainConfig
from skip_exp.data.batches import Batch, Row
from skip_exp.data.metrics import build_metrics
from skip_exp.data.module import TextDataModule
from skip_exp.errors import ConfigError
from skip_exp.job.job import Job
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training import trainer
from skip_exp.training.length import for_rows, is_improving
from skip_exp.training.module import PromptTuner
from skip_exp.training.probe import fit_linear

log = logging.getLogger(__name__)


def fit(
    job: Job,
    model: SoftPromptModel,
    settings: TrainConfig,
    phase: str,
    logger: Logger | None,
    teacher: Tensor | None = None,
) -> tuple[KeepLast, Curves]:
    """Train ``model`` in place and restore its last epoch that is as good as any on the slice.

    Args:
        phase: prefix of the logged metrics; also determines the seed.
        teacher: logits of ``job.taught`` [rows, labels], which are then trained on; None: the train
            rows and their labels alone.
    """
    settings = for_rows(settings, len(job.data.train))
    distill = 0.0 if teacher is None else job.cfg.retune.distill
    metrics = build_metrics(job.data.spec)
    tuner = PromptTuner(model, phase, settings, metrics, distill)
    data = job.batches(settings, phase, teacher)
    seed, rows = job.seed(phase), len(job.data.select)
    last, curves = trainer.fit(tuner, data, job.trainer, job.metric, seed, logger, rows)
    epochs = settings.epochs or 0  # at most; `for_rows` has set it
    log_kept(job.metric, last.epoch, epochs, last.score)
    if last.epoch + 1 == epochs and is_improving(curves.points, job.metric):
        base = for_rows(job.cfg.retune, len(job.data.train)).epochs  # times what the budget pays
        is_paid = phase == "retune" and epochs != base
        log.warning(
            "%s: stopped after %d epochs while still improving: try a larger %s.%s",
            phase, epochs, settings.phase, "budget" if is_paid else "epochs",
        )  # fmt: skip
    replay(logger, [kept(phase, curves.points, last.epoch)])
    return last, curves


def start_readout(job: Job, model: SoftPromptModel) -> None:
    """Fit a trained linear readout to what the untuned ``model`` gives it."""
    readout = model.readout
    if not isinstance(readout, HeadReadout):
        return
    if not readout.linear.weight.requires_grad:
        log.warning("tune: tune.train=prompt leaves the head random: prompt_readout trains it")
        return

    def read(model: SoftPromptModel, inputs: Batch) -> Tensor:
        seen: list[Tensor] = []
        linear = cast(HeadReadout, model.readout).linear
        with linear.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
            model(**inputs)
        return seen[0]

    inputs = answers(job, model, job.data.train, read, "head")
    if not inputs.isfinite().all():
        path = job.cfg.backbone.path
        raise ConfigError("backbone.path", path, "answers nan or inf; take undamaged weights")
    fit_linear(readout.linear, inputs, torch.tensor([row["label"] for row in job.data.train]))
    log.info("tune: the head starts as logistic regression on %d rows", len(inputs))


def log_kept(metric: str, epoch: int, epochs: int, score: float, how: str = "kept") -> None:
    """Log the selection score of the epoch that a fit ends with; -1 is the state before it."""
    place = f"{how} epoch {epoch + 1} of {epochs}"
    log.info("%s: %s %.1f on the selection slice", place, metric, 100 * score)


def teacher_of(job: Job, dense: SoftPromptModel) -> Tensor | None:
    """The dense model's logits of ``job.taught`` [rows, labels], computed once for all ratios.

    None without distillation.
    """
    if not job.cfg.retune.distill:
        return None

    def compute() -> Entry:
        logits = answers(job, dense, job.taught, lambda model, inputs: model(**inputs), "teacher")
        return Entry({"logits": logits})

    return job.stage("teacher", compute).tensors["logits"]


def answers(
    job: Job,
    model: SoftPromptModel,
    rows: Sequence[Row],
    ask: Callable[[SoftPromptModel, Batch], Tensor],
    what: str,
) -> Tensor:
    """``ask(model, inputs)`` for all ``rows``, concatenated in their order, on the CPU."""
    device = trainer.root_device(job.trainer)
    model = model.to(device).eval()

    @torch.inference_mode()
    def answer(batch: Batch) -> Tensor:
        on_device = {name: t.to(device) for name, t in batch.items() if name != "labels"}
        return ask(model, on_device)

    module = TextDataModule(job.data, job.cfg.retune.batch, job.seed("retune"), rows=rows)
    return module.of_rows(answer, what)
