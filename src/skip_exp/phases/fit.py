"""What tune and retune share: a fit of a model's trainable part."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp.callbacks.fit import Curves, KeepLast, mark_kept, replay, standard_error
from skip_exp.config.groups import RetuneConfig, TrainConfig
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import Batch
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows, get_labels
from skip_exp.errors import ConfigError
from skip_exp.models.readouts import HeadReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training import trainer as trainers
from skip_exp.training.module import PromptTuner, fit_linear

log = logging.getLogger(__name__)

EPOCHS_SLACK = 1e-9  # rounding: 1 - 0.9 is slightly less than 0.1
# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03
LAST = 0.25  # fraction of the epochs in which nothing should get better any more


def fit(
    trainer: TrainerConfig,
    loggers: Sequence[Logger],
    model: SoftPromptModel,
    rows: TextDataModule,
    settings: TrainConfig,
    epochs: int,
    seed: int,
    distill: float = 0.0,
    unfinished: Path | None = None,
) -> tuple[KeepLast, Curves]:
    """Train ``model`` in place and restore its last epoch that is as good as any on the slice.

    Args:
        rows: what is trained on, with a teacher's logits where ``distill`` is above 0.
        settings: of the phase, which is the prefix of the logged metrics.
        seed: of the phase.
        unfinished: file for the state of the fit, from which it goes on if it was killed.
    """
    phase, spec = settings.phase, rows.encoded.spec
    if epochs > settings.epochs:
        log.info("%s: %d epochs instead of %d (min_steps, budget)", phase, epochs, settings.epochs)
    metric, select = spec.metrics[0], len(rows.encoded.select)
    tuner = PromptTuner(model, phase, replace(settings, epochs=epochs), spec, distill)
    last, curves = trainers.fit(tuner, rows, trainer, metric, seed, loggers, select, unfinished)
    log_kept(metric, last.epoch, epochs, last.score)
    scores = [float(point[f"select_{metric}"]) for point in curves.points]
    error = standard_error(max(scores), select, metric)
    if last.epoch + 1 == epochs and is_improving(scores, error):
        message = "%s: stopped after %d epochs while still improving: try a larger %s.epochs"
        log.warning(message, phase, epochs, phase)
    replay(loggers, [mark_kept(phase, curves.points, last.epoch)])
    return last, curves


def start_readout(
    trainer: TrainerConfig,
    model: SoftPromptModel,
    data: Rows,
    path: str,
    phase: str = "tune",
) -> None:
    """Fit a trained linear readout to what ``model`` gives it before the phase.

    Args:
        path: of the backbone, for the message.

    Raises:
        ConfigError: the backbone answers nan or inf.
    """
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

    inputs = ask(trainer, model, TextDataModule(data, 1, 0), read, "head")
    if not inputs.isfinite().all():
        raise ConfigError("backbone.path", path, "answers nan or inf; take undamaged weights")
    labels = get_labels(data.train)
    fit_linear(readout.linear, inputs, torch.tensor(labels), data.spec.outcome)
    log.info("%s: the head starts as logistic regression on %d rows", phase, len(inputs))


def log_kept(metric: str, epoch: int, epochs: int, score: float, how: str = "kept") -> None:
    """Log the selection score of the epoch that a fit ends with; -1 is the state before it."""
    place = f"{how} epoch {epoch + 1} of {epochs}"
    log.info("%s: %s %.1f on the selection slice", place, metric, 100 * score)


def ask(
    trainer: TrainerConfig,
    model: SoftPromptModel,
    rows: TextDataModule,
    question: Callable[[SoftPromptModel, Batch], Tensor],
    what: str,
) -> Tensor:
    """``question(model, inputs)`` for all rows, concatenated in their order, on the CPU.

    Args:
        what: title of the progress bar.
    """
    device = trainers.root_device(trainer)
    model = model.to(device).eval()

    @torch.inference_mode()
    def answer(batch: Batch) -> Tensor:
        on_device = {name: t.to(device) for name, t in batch.items() if name != "labels"}
        return question(model, on_device)

    return rows.of_rows(answer, what)


def count_epochs(settings: TrainConfig, rows: int) -> int:
    """``epochs``, or as many as make ``min_steps`` optimizer steps on so many rows.

    Example:
        >>> count_epochs(TuneConfig(epochs=6, min_steps=60, batch=32), rows=64)
        30
    """
    steps = math.ceil(rows / settings.batch)
    return max(settings.epochs, math.ceil(settings.min_steps / steps))


def count_paid_epochs(settings: RetuneConfig, operations: float) -> int:
    """A multiple of ``epochs`` that costs at most ``budget`` dense epochs, but once at least.

    Args:
        operations: FLOPs of a forward pass as a fraction of the dense model's, about 1 - ratio.
    """
    cost = FIXED + (1 - FIXED) * operations  # of an epoch, as a fraction of a dense one
    paid = math.floor(settings.budget / (settings.epochs * cost) + EPOCHS_SLACK)
    return max(1, paid) * settings.epochs


def is_improving(scores: Sequence[float], error: float) -> bool:
    """Whether the last quarter of a fit's epochs gained more on the selection slice than chance.

    Example:
        >>> is_improving([0.5, 0.6, 0.7, 0.8], error=0.05)
        True

    Args:
        scores: of the selection slice, one per epoch.
        error: standard error of a score there.
    """
    before = len(scores) - math.ceil(LAST * len(scores))
    return before > 0 and max(scores[before:]) - max(scores[:before]) > error
