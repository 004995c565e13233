"""The LightningModule of the ``tune`` and ``retune`` phases, their losses and the head's start."""

import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from skip_exp.config.groups import TaskConfig, TrainConfig
from skip_exp.errors import SkipError
from skip_exp.models.readouts import HeadReadout, keep_fp32, watch_features
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import (
    list_factors,
    list_gates,
    load_trainable,
    trainable_state,
    unmerge_updates,
)
from skip_exp.outcomes.registry import Outcome
from skip_exp.outcomes.scores import UNLABELLED

# Entries of a batch that are not model inputs.
TARGETS = ("labels", "teacher")
CONTRAST_TEMPERATURE = 0.1
PARTNERS = 4  # texts of a batch per label; with fewer the contrastive loss cost accuracy
PROBE_STRENGTH = 1.0  # C of the logistic regression
PROBE_STEPS = 100  # of L-BFGS at most


class PromptTuner(L.LightningModule):
    """Trains a prompt, a readout and those weights of the backbone that ``settings.train`` names.

    Args:
        model: the model to tune; the pruning callback may replace it by a smaller one.
        phase: prefix of all logged names (``tune/train_loss``).
        settings: learning rates and schedule.
        task: whose outcome has the loss, and whose metrics are scored.
        distill: weight in [0, 1] of the distillation loss against the batch's ``teacher`` logits.
    """

    def __init__(
        self,
        model: SoftPromptModel,
        phase: str,
        settings: TrainConfig,
        task: TaskConfig,
        distill: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.phase = phase
        self.settings = settings
        self.distill = distill
        self.task = task
        self.outcome = task.outcome
        self._answers: list[tuple[Tensor, Tensor]] = []  # logits and labels of the slice
        self._total: Tensor | float = 0.0  # of the losses since the last validation

    def train(self, mode: bool = True) -> "PromptTuner":
        """Set the mode; the frozen backbone trains only if ``settings.dropout`` asks for it."""
        super().train(mode)
        self.model.backbone.train(mode and self.settings.dropout)
        return self

    def on_fit_start(self) -> None:
        """Enter training mode, which Lightning does not set, and unmerge updates."""
        self.train()
        unmerge_updates(self.model.backbone)

    @property
    def is_contrasted(self) -> bool:
        """Whether texts of one label are pulled together: a batch must have several of each."""
        return (
            self.settings.contrast > 0
            and self.outcome.is_exclusive
            and isinstance(self.model.readout, HeadReadout)
            and self.settings.batch >= PARTNERS * self.task.num_labels
        )

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.model(**{name: x for name, x in batch.items() if name not in TARGETS})
        labels = batch["labels"]
        # The mean over all rows, whatever their weights: those without a label count as 0.
        return logits, self.outcome.loss(logits, labels) / labels.numel()

    def on_train_batch_start(self, *_: Any) -> None:
        """Log the learning rates of the step, under the names of their keys."""
        for group in self.trainer.optimizers[0].param_groups:
            self.log(f"{self.phase}/{group['name']}", group["lr"])

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        with watch_features(self.model.readout) as features:
            logits, loss = self._loss(batch)
        if self.distill:
            loss = torch.lerp(loss, self.outcome.soft_loss(logits, batch["teacher"]), self.distill)
        if self.is_contrasted:
            pull = contrastive_loss(features[0], batch["labels"])
            loss = loss + self.settings.contrast * pull
        if not loss.requires_grad:
            raise SkipError(
                f"{self.phase}.train={self.settings.train}: pruning removed all of it; use a"
                " smaller prune.ratio, or also train the readout or the biases"
            )
        self._total += loss.detach()
        self.log(f"{self.phase}/train_loss", loss, batch_size=len(batch["labels"]))
        return loss

    def on_validation_start(self) -> None:
        """Raise a SkipError if a loss since the last validation was not finite."""
        total = float(self._total)
        self._total = 0.0
        if not math.isfinite(total):
            groups = self._group_parameters()
            rates = [f"{self.phase}.{group['name']}={group['lr']:g}" for group in groups]
            raise SkipError(
                f"{', '.join(rates)}: the loss became {total}; use smaller learning rates or "
                "trainer.precision=32-true"
            )

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        logits, loss = self._loss(batch)
        self._answers.append((logits, batch["labels"]))
        self.log(f"{self.phase}/select_loss", loss, batch_size=len(logits))

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([logits for logits, _ in self._answers]).cpu().numpy()
        labels = torch.cat([labels for _, labels in self._answers]).cpu().numpy()
        self._answers = []
        for name, value in self.outcome.score(self.task.metrics, logits, labels).items():
            self.log(f"{self.phase}/select_{name}", value)

    def state_dict(self, *_: Any, **__: Any) -> Any:
        """What a checkpoint has of the model: what a skill stores."""
        return trainable_state(self.model)

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Load a :meth:`state_dict`."""
        load_trainable(self.model, dict(state_dict))

    def _group_parameters(self) -> list[dict[str, Any]]:
        """What is trained, each group named by the key of its learning rate."""
        backbone = self.model.backbone
        factors = list_factors(backbone)
        gates = list_gates(backbone)
        updates = set(map(id, factors + gates))
        others = [p for p in _list_trained(backbone) if id(p) not in updates]
        rate_key = "full_lr" if self.settings.train in ("layers", "full") else "bias_lr"
        parts = {
            "lr": _list_trained(self.model.prompt),
            "readout_lr": _list_trained(self.model.readout),
            rate_key: others,
            "gate_lr": gates,
            "lora_lr": factors,
        }
        groups = []
        for key, parameters in parts.items():
            if parameters:
                groups.append(
                    {"name": key, "params": parameters, "lr": getattr(self.settings, key)}
                )
        return groups

    def configure_optimizers(self) -> Any:
        settings = self.settings
        optimizer = torch.optim.AdamW(self._group_parameters(), weight_decay=settings.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_linear_schedule_with_warmup(optimizer, int(settings.warmup * steps), steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def _list_trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def contrastive_loss(features: Tensor, labels: Tensor) -> Tensor:
    """The supervised contrastive loss of Khosla et al. (2020, equation 2), as in Gunel et al. 2021.

    Every text is asked which others have its label, by the similarity of normalized features. The
    mean over the texts that have such others; 0 where there is none.

    Args:
        features: [rows, H].
        labels: class indices [rows]; a text without one is nobody's partner.
    """
    with keep_fp32(features):
        directions = F.normalize(features, dim=1)
        similarity = directions @ directions.T / CONTRAST_TEMPERATURE
    # No text is its own partner.
    shares = similarity.fill_diagonal_(-torch.inf).log_softmax(1)
    is_partner = labels[:, None].eq(labels) & labels.ne(UNLABELLED)
    is_partner.fill_diagonal_(False)
    partners = is_partner.sum(1)
    losses = -shares.masked_fill(~is_partner, 0.0).sum(1) / partners.clamp_min(1)
    return losses.sum() / partners.count_nonzero().clamp_min(1)


def fit_linear(linear: nn.Linear, inputs: Tensor, labels: Tensor, outcome: Outcome) -> None:
    """Fit a readout in place: regularized logistic regression on what the untuned model shows it.

    Kumar et al. (2022, "LP-FT") train the head before the rest: a random head moves features away
    from where they were good. With few rows that decides: 300 steps do not teach 77 classes to a
    new head. Minimizes ``sum of cross-entropies + |weight|^2 / (2 C)``, as scikit-learn does; with
    several labels per text, one against the rest for each. A class without rows ends with a bias
    far below the others.

    Args:
        inputs: its inputs [rows, H].
        labels: as in the outcome.
    """
    trained = _list_trained(linear)
    optimizer = torch.optim.LBFGS(
        trained, max_iter=PROBE_STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = outcome.loss(linear(inputs), labels)
        mean = (total + linear.weight.square().sum() / (2 * PROBE_STRENGTH)) / len(labels)
        mean.backward()
        return mean

    for parameter in trained:  # far from 0 the line search is slow
        nn.init.zeros_(parameter)
    optimizer.step(loss)  # which enables gradients
