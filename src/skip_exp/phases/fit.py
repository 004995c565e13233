"""tune and retune: a prompt, a readout and what `train` names of the backbone are trained."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp.backbones.load import Backbone
from skip_exp.cache.store import JOB_STAGE, Entry, Keyed, stage_key
from skip_exp.callbacks.fit import Curves, KeepLast, mark_kept, replay
from skip_exp.config.groups import RetuneConfig, TrainConfig, TuneConfig
from skip_exp.config.schema import PromptConfig, TrainerConfig
from skip_exp.data.batches import Batch, Row, answer_all, batch_by_length, collate
from skip_exp.data.module import EVAL_BATCH, TextDataModule
from skip_exp.data.rows import Rows, get_labels
from skip_exp.errors import ConfigError
from skip_exp.models.readouts import HeadReadout, watch_features
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import flops
from skip_exp.models.trained import load_trainable, train_only, trainable_state
from skip_exp.phases.build import Start, build_model, phase_seed
from skip_exp.phases.job import Job
from skip_exp.training import trainer as trainers
from skip_exp.training.module import PromptTuner, fit_linear
from skip_exp.utils import console

log = logging.getLogger(__name__)

# Fraction of a dense epoch that pruning does not reduce (norms, embeddings, optimizer, loop), as
# measured on minilm in fp32. A constant, so that the number of epochs is the same on all machines.
FIXED = 0.03
FEW = (
    300  # train rows; with fewer a head is fitted again where texts of a label were pulled together
)


def tune(job: Job, loggers: Sequence[Logger] = ()) -> tuple[Keyed[SoftPromptModel], str]:
    """The dense model, and whether its training was a hit or a miss; the curves are logged."""
    arguments = job.dense_arguments
    key = stage_key(fit_dense, arguments)
    if job.cfg.tune.is_given:
        log.info("tune: the model stays as it is")
        return Keyed(key, job.new_model), "miss"
    # A fit that was killed goes on from this file.
    unfinished = job.cache.unfinished(fit_dense.__name__, key, "ckpt")
    entry = job.cache.stage(fit_dense, job.trainer, loggers, unfinished, **arguments)
    # The entry holds what was trained alone: the rest of the model is the backbone.
    model = job.new_model()
    load_trainable(model, entry.tensors)
    # A fit logs its own curves; a cached one's are logged again.
    if entry.hit:
        curves = entry.values["curves"]
        choice = entry.values["choice"]
        replay(loggers, [*curves, mark_kept("tune", curves, choice["epoch"])])
        log_choice("tune (cached)", job.metric, len(curves), **choice)
    return Keyed(entry.key, lambda: model, entry.keep), entry.found


def fit_dense(
    trainer: TrainerConfig,
    loggers: Sequence[Logger],
    unfinished: Path | None,
    *,
    data: Rows,
    backbone: Backbone,
    pooling: str,
    prompt: PromptConfig,
    settings: TuneConfig,
    start: Start | None,
    seed: int,
    precision: str,
) -> Entry:
    """Train the dense model: its trained parameters, its curves, and the epoch that it kept.

    Args:
        unfinished: see :func:`fit`.
        precision: that of ``trainer``. The key holds all keywords, and of the trainer only this.
    """
    # On a GPU the model is moved there: then it must not share weights with later jobs.
    model = build_model(
        data,
        backbone,
        pooling,
        prompt,
        settings,
        start,
        seed,
        shares_backbone=trainers.root_device(trainer).type == "cpu",
    )
    fit_readout(trainer, model, data)
    tune_seed = phase_seed(seed, "tune")
    last, curves = fit(
        trainer,
        loggers,
        model,
        TextDataModule(data, settings.batch, tune_seed),
        settings,
        count_epochs(settings, len(data.train)),
        tune_seed,
        unfinished=unfinished,
    )
    return Entry(trainable_state(model), {"curves": curves.points, "choice": last.describe()})


def retune(
    job: Job, dense: Keyed[SoftPromptModel], pruned: SoftPromptModel, loggers: Sequence[Logger]
) -> tuple[SoftPromptModel, int]:
    """The final model, trained again if ``retune.enabled``; ``pruned`` is not changed.

    Returns the model, and the number of re-tuning epochs, 0 without re-tuning.
    """
    settings = job.cfg.retune
    seed = job.seed("retune")
    model = pruned.copy()
    if not settings.enabled:
        train_only(model, job.cfg.tune.train)  # the skill stores what was trained, nothing else
        return model.eval(), 0
    train_only(model, settings.train, settings.rank, seed)
    if settings.train == "prompt_readout":  # a frozen backbone cannot move its features back
        fit_readout(job.trainer, model, job.data, "retune")
    epochs = plan_epochs(job, dense.value, pruned)
    if settings.distill:
        # The dense model's logits do not depend on the ratio: jobs of all ratios share them.
        answered = job.cache.stage(
            ask_teacher,
            job.trainer,
            dense=dense,
            data=job.dense_arguments["data"],
            texts=job.student_rows,
        )
        rows = TextDataModule(
            job.data,
            settings.batch,
            seed,
            teacher=answered.tensors["logits"],
            rows=job.student_rows.value,
            versions=1 + settings.copies,
        )
    else:
        rows = TextDataModule(job.data, settings.batch, seed)
    unfinished = job.cache.unfinished(JOB_STAGE, job.key, "ckpt")
    fit(job.trainer, loggers, model, rows, settings, epochs, seed, settings.distill, unfinished)
    return model.eval(), epochs


def plan_epochs(job: Job, dense: SoftPromptModel, pruned: SoftPromptModel) -> int:
    """The configured epochs, or as many as ``retune.budget`` pays or few rows need.

    FLOPs are counted at the mean length of the train rows, so all machines get the same number.
    """
    settings = job.cfg.retune
    lengths = [len(row["input_ids"]) for row in job.data.train]
    mean = round(sum(lengths) / len(lengths))
    operations = flops(pruned, mean) / flops(dense, mean)
    return max(count_paid_epochs(settings, operations), count_epochs(settings, len(lengths)))


def ask_teacher(
    trainer: TrainerConfig, *, dense: SoftPromptModel, data: Rows, texts: list[Row]
) -> Entry:
    """The dense model's logits of the texts [rows, labels], computed once for all ratios.

    In bf16 where the model was tuned in it: its key holds the precision.
    """
    with torch.autocast(
        trainers.root_device(trainer).type,
        torch.bfloat16,
        enabled=trainer.precision == "bf16-mixed",
    ):
        return Entry({"logits": ask(trainer, dense, data, texts, answer_batch, "teacher")})


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
    phase = settings.phase
    if epochs > settings.epochs:
        log.info("%s: %d epochs instead of %d (min_steps, budget)", phase, epochs, settings.epochs)
    spec = rows.encoded.spec
    metric = spec.metrics[0]
    tuner = PromptTuner(model, phase, replace(settings, epochs=epochs), spec, distill)
    if tuner.is_contrasted:
        log.info("%s: several texts of each label a batch: they are pulled together", phase)
    last, curves = trainers.fit(
        tuner,
        rows,
        trainer,
        metric,
        seed,
        loggers,
        len(rows.encoded.select),
        unfinished,
    )
    log_choice(phase, metric, epochs, **last.describe())
    replay(loggers, [mark_kept(phase, curves.points, last.epoch)])
    if tuner.is_contrasted and len(rows.encoded.train) < FEW:
        fit_readout(trainer, model, rows.encoded, phase)
    return last, curves


def fit_readout(
    trainer: TrainerConfig, model: SoftPromptModel, data: Rows, phase: str = "tune"
) -> None:
    """Fit a trained linear readout, as logistic regression, to what ``model`` gives it.

    Before a phase, and again after one that pulled texts of one label together, as in SetFit
    (Tunstall et al. 2022): on halves of CR and SST-2, 100 rows gained two points by it, uncut.

    Raises:
        ConfigError: the backbone answers nan or inf.
    """
    readout = model.readout
    if not isinstance(readout, HeadReadout):
        return
    if not readout.linear.weight.requires_grad:
        log.warning("tune: tune.train=prompt leaves the head random: prompt_readout trains it")
        return

    features = ask(trainer, model, data, data.train, read_features, "head")
    if not features.isfinite().all():
        raise ConfigError(
            "backbone.path",
            model.backbone.name_or_path,
            "answers nan or inf; take undamaged weights",
        )
    fit_linear(readout.linear, features, torch.tensor(get_labels(data.train)), data.spec.outcome)
    log.info("%s: the head is fitted as logistic regression on %d rows", phase, len(features))


def read_features(model: SoftPromptModel, batch: Batch) -> Tensor:
    """What the linear of a head gets for a batch [rows, in]."""
    with watch_features(model.readout) as features:
        model(**batch)
    return features[0]


def answer_batch(model: SoftPromptModel, batch: Batch) -> Tensor:
    """Logits of a batch [rows, labels]."""
    return model(**batch)


def log_choice(
    phase: str, metric: str, epochs: int, *, epoch: int, score: float, start: float, highest: float
) -> None:
    """Log the epoch that a fit ends with, and the scores on the selection slice that chose it.

    Args:
        epoch: from 0; -1 is the state before training.
    """
    state = f"epoch {epoch + 1} of {epochs}" if epoch >= 0 else "its start, above all epochs"
    noise = f"; the best, {100 * highest:.1f}, is within the noise" if score < highest else ""
    log.info(
        "%s: keeping %s: %s %.1f on the selection slice, %.1f before%s",
        phase,
        state,
        metric,
        100 * score,
        100 * start,
        noise,
    )


def ask(
    trainer: TrainerConfig,
    model: SoftPromptModel,
    data: Rows,
    rows: Sequence[Row],
    question: Callable[[SoftPromptModel, Batch], Tensor],
    title: str,
) -> Tensor:
    """``question(model, batch)`` [n, ...] for ``rows`` of ``data``, in their order, on the CPU.

    Args:
        question: such as :func:`answer_batch`; a batch has no labels.
        title: of the progress bar.
    """
    device = trainers.root_device(trainer)
    model = model.to(device).eval()

    @torch.inference_mode()
    def answer(batch_rows: list[Row]) -> Tensor:
        batch = collate(batch_rows, data.tokenizer.pad_token_id)
        batch.pop("labels", None)
        return question(model, {name: x.to(device) for name, x in batch.items()})

    batches = batch_by_length(rows, EVAL_BATCH)
    answers = answer_all(rows, console.bar(len(batches), title, batches), answer)
    model.to("cpu")  # where all models are between two passes: they share weights
    # A single copy at the end: a copy per batch would synchronize with the GPU each time.
    return torch.stack(answers).cpu()


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
    # 1 - 0.9 is slightly less than 0.1.
    paid = math.floor(settings.budget / (settings.epochs * cost) + 1e-9)
    return max(1, paid) * settings.epochs
