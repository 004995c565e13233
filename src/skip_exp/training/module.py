"""The LightningModule of the `tune` and `retune` phases."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric, MetricCollection

from skip_exp.config.schema import TrainConfig
from skip_exp.errors import SkipError
from skip_exp.models import lora
from skip_exp.models.hidden import layer_states, layers_left, text_means
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.hidden import HiddenTargets

# Of a batch: what the model must not see.
TARGETS = ("labels", "weight", "teacher", "hidden", "half")
TEMPERATURE = 2.0  # of both sides' answers in `distill`
LOOK_EVERY = 10  # steps: reading a loss waits for the GPU


class PromptTuner(L.LightningModule):
    """Trains prompt and readout on a frozen backbone and scores splits.

    Args:
        model: what is tuned; the pruning callback may replace it by a smaller one.
        phase: prefix of everything that is logged (``tune/train_loss``).
        settings: learning rates, schedule, clipping.
        metrics: the task's metrics, main one first.
        distill: weight of the ``teacher`` logits of each batch in the loss, in [0, 1].
        hidden: loss of the layers' text means against the ``hidden`` ones of each batch, or None.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        phase: str,
        settings: TrainConfig,
        metrics: MetricCollection,
        distill: float = 0.0,
        hidden: HiddenTargets | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.settings = settings
        self.distill = distill
        self.hidden = hidden
        # Lightning's own mean goes wrong where processes score different numbers of rows.
        self.select_loss = MeanMetric()
        self.select_metrics = metrics.clone()
        self.half_metrics: Any = torch.nn.ModuleList(metrics.clone() for _ in range(2))
        self.test_metrics = metrics.clone()
        self._losses: list[tuple[int, Tensor]] = []  # with their steps; not looked at yet

    def train(self, mode: bool = True) -> "PromptTuner":
        """Training mode; the frozen backbone stays in eval mode unless its dropout is wanted."""
        super().train(mode)
        self.model.backbone.train(mode and self.settings.dropout)
        return self

    def on_fit_start(self) -> None:
        """Lightning trains in whatever mode it finds; low-rank updates are trained unmerged."""
        self.train()
        lora.unmerge(self.model.backbone)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.model(**{k: v for k, v in batch.items() if k not in TARGETS})
        return logits, F.cross_entropy(logits, batch["labels"])

    def _train_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Of the labels, and of what the dense model made of the texts."""
        reading = layer_states(self.model) if self.hidden else nullcontext(list[Tensor]())
        with reading as states:
            logits, loss = self._loss(batch)
        if self.distill:
            loss = torch.lerp(loss, soft_loss(logits, batch["teacher"]), self.distill)
        if self.hidden:
            means = text_means(states, batch["attention_mask"])
            own = self.hidden.loss(means, batch["hidden"], layers_left(self.model))
            loss = loss + self.hidden.weight * own
        return loss

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        loss = self._train_loss(batch)
        if not loss.requires_grad:
            raise SkipError(
                f"{self.phase}.train={self.settings.train}: all of it was cut away; needs a"
                " smaller prune.ratio, or a readout or biases to train"
            )
        # One process's share of a batch counts for its rows: see data.module.share.
        loss = loss * batch.get("weight", 1)
        self._losses.append((self.global_step, loss.detach()))
        if len(self._losses) == LOOK_EVERY:
            self._check_losses()
        name, rows = f"{self.phase}/train_loss", len(batch["labels"])
        self.log(name, loss, batch_size=rows, prog_bar=True, sync_dist=True)
        return loss

    def _check_losses(self) -> None:
        """Raises SkipError: a loss since the last look is not finite."""
        if not self._losses:
            return
        steps, losses = zip(*self._losses, strict=True)
        self._losses.clear()
        for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
            if not math.isfinite(loss):
                raise SkipError(
                    f"{self.phase}.lr={self.settings.lr}: the loss became {loss} at step {step}; "
                    "a smaller learning rate, or trainer.precision=32-true"
                )

    def on_validation_start(self) -> None:
        """Before a score is made of it: an epoch need not end with a look."""
        self._check_losses()

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        logits, loss = self._loss(batch)
        predicted, labels = logits.argmax(-1), batch["labels"]
        self.select_metrics.update(predicted, labels)
        self.select_loss.update(loss, len(labels))
        for half, metrics in enumerate(self.half_metrics):
            rows = batch["half"] == half
            if rows.any():  # a small batch may hold none, which torchmetrics refuses
                metrics.update(predicted[rows], labels[rows])

    def on_validation_epoch_end(self) -> None:
        self.log(f"{self.phase}/select_loss", self.select_loss.compute())
        for name, value in self.select_metrics.compute().items():
            self.log(f"{self.phase}/select_{name}", value, prog_bar=True)
        for half, metrics in enumerate(self.half_metrics):
            for name, value in metrics.compute().items():
                # For `KeepBest` alone: neither curves nor loggers show halves.
                self.log(f"half{half}/{name}", value, logger=False)
            metrics.reset()
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
        factors = lora.factors(self.model.backbone)
        low_rank = {id(factor) for factor in factors}
        trained = [p for p in self.model.backbone.parameters() if p.requires_grad]
        biases = [p for p in trained if id(p) not in low_rank]
        groups = [
            {"params": prompt, "lr": self.settings.lr},
            {"params": readout, "lr": self.settings.readout_lr},
            {"params": biases, "lr": self.settings.bias_lr},
            {"params": factors, "lr": self.settings.lora_lr},
        ]
        optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]], weight_decay=self.settings.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, linear(int(self.settings.warmup * steps), steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def linear(warmup: int, steps: int) -> Callable[[int], float]:
    """Step -> factor of a learning rate: up from 0 in ``warmup`` steps, down to 0 at ``steps``.

    The schedule of the same name in transformers; importing that takes half a second where peft is
    installed, since it brings it along.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor


def soft_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Divergence from a teacher's softened answers, both logits [B, labels] (Hinton et al. 2015).

    T^2 * KL(teacher/T || logits/T), mean over the batch: its gradient is of the size of the hard
    labels', whatever the temperature.
    """
    student_log_p, teacher_log_p = (F.log_softmax(x / TEMPERATURE, -1) for x in (logits, teacher))
    return TEMPERATURE**2 * F.kl_div(
        student_log_p, teacher_log_p, log_target=True, reduction="batchmean"
    )
