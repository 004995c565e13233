"""What acts within a fit: its curves and lines, the epoch that it keeps, and its saved state.

The saved state is that from which a killed fit goes on, bit by bit. A cached phase logs its curves
again.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from skip_exp.errors import first_line
from skip_exp.models.trained import State, load_trainable, trainable_state
from skip_exp.utils import console

log = logging.getLogger(__name__)

LOWEST = {"matthews": -1.0}  # of a metric; else 0
SAVED = ("epoch", "score", "start", "highest", "state")  # what a checkpoint has of `KeepLast`
FIRST = 10.0  # seconds of a fit before it is saved for the first time
SHARE = 0.02  # of a fit's time that saving may take
RANDOM = "random"  # entry of a checkpoint: states of torch's generators, which a fit draws from


class Curves(Callback):
    """Collects a row of metrics per epoch in ``points``; see :func:`replay`."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.points: list[dict[str, float | str]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        replay(trainer.loggers, self.points)  # of the epochs before a fit was killed

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # The trainer logs every n-th step; an epoch shorter than that also needs a training loss.
        trainer.log_every_n_steps = min(
            trainer.log_every_n_steps, int(trainer.num_training_batches)
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        point: dict[str, float | str] = {"phase": self.phase, "step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            phase, _, metric = name.partition("/")
            if phase == self.phase:
                point[metric] = value.item()
        self.points.append(point)

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = state_dict["points"]


def mark_kept(phase: str, curves: Sequence[Mapping[str, Any]], epoch: int) -> dict[str, Any]:
    """The row of the epoch that a phase kept, with its number from 0 as ``kept_epoch``.

    Epoch -1 is the state before training, which has no row.
    """
    row = curves[epoch] if epoch >= 0 else {"phase": phase, "step": 0}
    return dict(row) | {"kept_epoch": epoch}


def replay(loggers: Sequence[Logger], curves: Sequence[Mapping[str, Any]]) -> None:
    """Log the stored curves of a phase, {phase, step, metric: value} per row, as a fit does.

    Its steps and epochs count from 0, ``step`` is the number of steps that were made.
    """
    for epoch, row in enumerate(curves):
        metrics = {f"{row['phase']}/{k}": v for k, v in row.items() if k not in ("phase", "step")}
        metrics["epoch"] = row.get("kept_epoch", epoch)
        for logger in loggers:
            logger.log_metrics(dict(metrics), step=max(row["step"] - 1, 0))
    for logger in loggers:
        logger.save()


class EpochLines(Callback):
    """Logs lines such as ``epoch 3 of 8  accuracy 81.2  loss 0.43  about 20 s left``, with bars.

    Score and loss are those of the selection slice. Epoch 0 is the state before training.

    Args:
        phase: prefix of the logged metrics.
        metric: the task's main one.
    """

    def __init__(self, phase: str, metric: str) -> None:
        self.phase = phase
        self.metric = metric
        self.bar = console.bar(0, phase)
        self.began = 0.0  # of the epoch

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.bar.update()

    def on_exception(self, *_: Any, **__: Any) -> None:
        self.bar.close()

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._say(trainer, 0)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began = time.perf_counter()
        title = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self.bar = console.bar(int(trainer.num_training_batches), title)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.bar.close()
        done = trainer.current_epoch + 1
        remaining = (trainer.max_epochs or 0) - done
        self._say(trainer, done, (time.perf_counter() - self.began) * remaining)

    def _say(self, trainer: L.Trainer, epoch: int, left: float = 0.0) -> None:
        metrics = trainer.callback_metrics
        score = 100 * metrics[f"{self.phase}/select_{self.metric}"].item()
        loss = metrics[f"{self.phase}/select_loss"].item()
        rest = f"  about {console.duration(left)} left" if left else ""
        title = f"epoch {epoch} of {trainer.max_epochs}"
        log.info("%s  %s %.1f  loss %.2f%s", title, self.metric, score, loss, rest)


class KeepLast(Callback):
    """Keeps the trained parameters of the last epoch that is as good as any, and restores them.

    A slice of a few hundred rows cannot rank epochs: the one with the highest score is mostly the
    luckiest one, from a time when the learning rate was high. So the last epoch is kept, but none
    whose score is two standard errors below the best one, or re-tuned and below its start.

    The trained parameters stay in memory: kilobytes of a prompt, or every weight of the layers. The
    state before the first epoch is epoch -1 (Lightning's sanity check scores the whole slice).

    Args:
        rows: of the selection slice.

    Attributes:
        epoch: the one that is kept.
        score: of what is kept, on the selection slice.
        start, highest: scores before training, and of the best epoch.
    """

    def __init__(self, phase: str, metric: str, rows: int) -> None:
        self.phase = phase
        self.metric = metric
        self.rows = rows
        self.score = math.nan
        self.start = self.highest = -math.inf
        self.state: State = {}
        self.epoch = -1

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        score = trainer.callback_metrics[f"{self.phase}/select_{self.metric}"].item()
        if trainer.sanity_checking:
            self.start = score
        self.highest = max(self.highest, score)
        error = standard_error(self.highest, self.rows, self.metric)
        start = self.start if self.phase == "retune" else -math.inf
        if score >= max(start, self.highest - 2 * error):
            self.score = score
            self.epoch = -1 if trainer.sanity_checking else trainer.current_epoch
            self.state = trainable_state(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        load_trainable(pl_module.model, self.state)
        self.state = {}

    def describe(self) -> dict[str, Any]:
        """The epoch that was kept, and the scores that say why."""
        return {name: getattr(self, name) for name in SAVED if name != "state"}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SAVED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


def standard_error(score: float, rows: int, metric: str) -> float:
    """Of a score between its metric's lowest and 1 on so many rows, as that of a share of them.

    All right or all wrong counts as two rows from it: no slice is that certain.

    Example:
        >>> standard_error(0.75, 12, "accuracy")
        0.125
    """
    least = min(0.5, 2 / rows)
    lowest = LOWEST.get(metric, 0.0)
    share = min(1 - least, max(least, (score - lowest) / (1 - lowest)))
    return (1 - lowest) * math.sqrt(share * (1 - share) / rows)


class Checkpoint(Callback):
    """Saves what is trained, optimizer, schedule, callbacks and generators at the end of epochs.

    An epoch is left out if saving would take more than ``SHARE`` of the time since the last save.

    Args:
        path: of the file, which is replaced whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.due = 0.0  # when to save next, in seconds of the monotonic clock

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.due = time.monotonic() + FIRST

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        began = time.monotonic()
        if began >= self.due:
            trainer.save_checkpoint(self.path, weights_only=False)
            saved = time.monotonic()
            self.due = saved + max(FIRST, (saved - began) / SHARE)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        checkpoint[RANDOM] = {"cpu": torch.get_rng_state(), "cuda": on_gpu}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # Before any loader is iterated: each draws a seed for its workers, used or not.
        torch.set_rng_state(checkpoint[RANDOM]["cpu"])
        if checkpoint[RANDOM]["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(checkpoint[RANDOM]["cuda"])


def find_checkpoint(path: Path | None, module: Any) -> Path | None:
    """``path``, if the fit of ``module`` can go on from there; a damaged file causes a warning.

    Args:
        module: a :class:`skip_exp.training.module.PromptTuner`.
    """
    if path is None or not path.exists():
        return None
    try:
        saved = torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader makes of half a file
        log.warning("%s: damaged, the fit starts again: %s", path, first_line(error))
        return None
    epoch = saved["epoch"] + 1
    log.info("%s: goes on after epoch %d of %d", module.phase, epoch, module.settings.epochs)
    return path
