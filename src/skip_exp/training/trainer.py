"""The LightningModule of the `tune` and `retune` phases, and the trainers that drive it."""

import logging
import math
import multiprocessing
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from transformers import get_linear_schedule_with_warmup

from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.precision import multiplies_bf16
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.length import TrainSettings

log = logging.getLogger(__name__)
State = dict[str, Tensor]

TARGETS = ("labels", "weight", "teacher")  # of a batch: what the model must not see
TEMPERATURE = 2.0  # of both sides' answers in `distill`


def trainable_state(model: SoftPromptModel) -> State:
    """A copy of what is the skill's own (prompt, readout, trained biases), on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in model.skill_parameters().items()}


def load_trainable(model: SoftPromptModel, state: State) -> None:
    """Put a :func:`trainable_state` back in place."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in state.items():
            parameters[name].copy_(tensor)


class PromptTuner(L.LightningModule):
    """Trains prompt and readout on a frozen backbone and scores splits.

    Args:
        model: what is tuned; the pruning callback may replace it by a smaller one.
        phase: prefix of everything that is logged (``tune/train_loss``).
        settings: learning rates, schedule, clipping.
        metrics: the task's metrics, main one first.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        phase: str,
        settings: TrainSettings,
        metrics: MetricCollection,
    ) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.settings = settings
        # Lightning's own mean goes wrong where processes score different numbers of rows.
        self.select_loss = MeanMetric()
        self.select_metrics = metrics.clone()
        self.test_metrics = metrics.clone()

    def train(self, mode: bool = True) -> "PromptTuner":
        """Training mode; the frozen backbone stays in eval mode unless its dropout is wanted."""
        super().train(mode)
        self.model.backbone.train(mode and self.settings.dropout)
        return self

    def on_fit_start(self) -> None:
        """Lightning trains in whatever mode it finds."""
        self.train()

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.model(**{k: v for k, v in batch.items() if k not in TARGETS})
        return logits, F.cross_entropy(logits, batch["labels"])

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        logits, loss = self._loss(batch)
        if self.settings.distill:
            loss = torch.lerp(loss, soft_loss(logits, batch["teacher"]), self.settings.distill)
        # One process's share of a batch counts for its rows: see data.module.share.
        loss = loss * batch.get("weight", 1)
        if not math.isfinite(loss.item()):
            raise SkipError(
                f"{self.phase}.lr={self.settings.lr}: the loss became {loss.item()} at step "
                f"{self.global_step}; a smaller learning rate, or trainer.precision=32-true"
            )
        name, rows = f"{self.phase}/train_loss", len(batch["labels"])
        self.log(name, loss, batch_size=rows, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        logits, loss = self._loss(batch)
        self.select_metrics.update(logits.argmax(-1), batch["labels"])
        self.select_loss.update(loss, len(batch["labels"]))

    def on_validation_epoch_end(self) -> None:
        self.log(f"{self.phase}/select_loss", self.select_loss.compute())
        for name, value in self.select_metrics.compute().items():
            self.log(f"{self.phase}/select_{name}", value, prog_bar=True)
        self.select_loss.reset()
        self.select_metrics.reset()

    def test_step(self, batch: dict[str, Tensor], _: int) -> None:
        logits, _loss = self._loss(batch)
        self.test_metrics.update(logits.argmax(-1), batch["labels"])

    def on_test_epoch_end(self) -> None:
        for name, value in self.test_metrics.compute().items():
            self.log(name, value)
        self.test_metrics.reset()

    def configure_optimizers(self) -> Any:
        prompt = [p for p in self.model.prompt.parameters() if p.requires_grad]
        readout = [p for p in self.model.readout.parameters() if p.requires_grad]
        biases = [p for p in self.model.backbone.parameters() if p.requires_grad]
        groups = [
            {"params": prompt, "lr": self.settings.lr},
            {"params": readout, "lr": self.settings.readout_lr},
            {"params": biases, "lr": self.settings.bias_lr},
        ]
        optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], weight_decay=self.settings.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(
            optimizer, int(self.settings.warmup * steps), steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def soft_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Divergence from a teacher's softened answers, both logits [B, labels] (Hinton et al. 2015).

    T^2 * KL(teacher/T || logits/T), mean over the batch: its gradient is of the size of the hard
    labels', whatever the temperature.
    """
    given, wanted = (F.log_softmax(x / TEMPERATURE, -1) for x in (logits, teacher))
    return TEMPERATURE**2 * F.kl_div(given, wanted, log_target=True, reduction="batchmean")


class KeepBest(Callback):
    """Keeps the prompt and readout of the best epoch on the selection slice and puts them back.

    In memory, since it is kilobytes. Ties go to the lower loss. The state before the first epoch
    counts as well (as epoch -1: Lightning's sanity check scores the whole slice), so that
    re-tuning cannot make things worse.
    """

    def __init__(self, phase: str, metric: str) -> None:
        self.phase, self.metric = phase, metric
        self.best: tuple[float, float] | None = None
        self.state: State = {}
        self.epoch = -1

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        seen = trainer.callback_metrics
        score = seen[f"{self.phase}/select_{self.metric}"].item()
        key = (score, -seen[f"{self.phase}/select_loss"].item())
        if self.best is None or key > self.best:
            self.best = key
            self.epoch = -1 if trainer.sanity_checking else trainer.current_epoch
            self.state = trainable_state(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        load_trainable(pl_module.model, self.state)


class Curves(Callback):
    """Records the phase's curves, so that a cached phase can replay them to the loggers."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.points: list[dict[str, float | str]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        point: dict[str, float | str] = {"phase": self.phase, "step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            phase, _, metric = name.partition("/")
            if phase == self.phase:
                point[metric] = value.item()
        self.points.append(point)


@dataclass(frozen=True)
class Hardware:
    """Plain twin of ``config.TrainerConfig``, precision resolved.

    Raises:
        ConfigError: a number of devices that cannot be had.
    """

    accelerator: str
    devices: int  # processes of a fit: one GPU each, or the CPU
    precision: Any  # one of Lightning's names
    progress: bool

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise ConfigError("trainer.devices", self.devices, "must be at least 1")
        gpus = 0 if self.accelerator == "cpu" else torch.cuda.device_count()
        if gpus and self.devices > gpus:
            raise ConfigError("trainer.devices", self.devices, f"at most {gpus} GPUs can be used")
        if self.devices > 1 and multiprocessing.get_start_method(allow_none=True) == "loky":
            why = "hydra/launcher=joblib runs jobs of one device each"  # its workers start nothing
            raise ConfigError("trainer.devices", self.devices, why)


def resolve_precision(precision: str, accelerator: str) -> str:
    """``auto`` -> bf16-mixed where the processor or the GPU computes it natively, else 32-true."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if multiplies_bf16() else "32-true"


def fit(
    tuner: PromptTuner,
    data: L.LightningDataModule,
    hardware: Hardware,
    metric: str,
    seed: int,
    logger: Logger | None,
    callbacks: list[Callback],
) -> tuple[KeepBest, Curves]:
    """Train ``tuner``; its model ends on the best epoch of the selection slice.

    With several devices, this is one of the processes that ``training.processes.fit`` starts.
    """
    best, curves = KeepBest(tuner.phase, metric), Curves(tuner.phase)
    trainer = fit_trainer(tuner, hardware, metric, logger, [*callbacks, best, curves])
    L.seed_everything(seed, verbose=False)
    trainer.fit(tuner, data)
    return best, curves


def fit_trainer(
    tuner: PromptTuner,
    hardware: Hardware,
    metric: str,
    logger: Logger | None,
    callbacks: list[Callback],
) -> L.Trainer:
    """A trainer for one phase: early stopping on the selection slice, clipping, no checkpoints."""
    settings, several = tuner.settings, hardware.devices > 1
    name = f"{tuner.phase}/select_{metric}"
    stop = EarlyStopping(name, mode="max", patience=settings.patience, check_finite=False)
    return L.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        # A sublayer that was cut away entirely leaves its norm and its prefix without a gradient.
        # Buffers are constants, and the processes score different numbers of batches.
        strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        if several
        else "auto",
        plugins=LightningEnvironment() if several else None,  # on a cluster, too
        use_distributed_sampler=False,  # the data module deals out the rows
        precision=hardware.precision,
        max_epochs=settings.epochs,
        gradient_clip_val=settings.clip,
        logger=logger or False,
        callbacks=[*callbacks, stop, *progress(hardware)],
        deterministic=True,
        num_sanity_val_steps=-1,
        log_every_n_steps=10,
        enable_progress_bar=hardware.progress,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def eval_trainer(hardware: Hardware, callbacks: list[Callback] | None = None) -> L.Trainer:
    """A trainer that scores splits in fp32, whatever precision trained."""
    return L.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        precision="32-true",
        logger=False,
        callbacks=callbacks or [],
        deterministic=True,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def progress(hardware: Hardware) -> list[Callback]:
    return [TQDMProgressBar(refresh_rate=10)] if hardware.progress else []
