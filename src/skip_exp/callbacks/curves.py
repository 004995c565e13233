"""What a fit shows: its curves, which a cached phase logs again, and a line per epoch.

An epoch that takes longer than five seconds has a bar.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from skip_exp.utils import console

log = logging.getLogger(__name__)


class Curves(Callback):
    """Collects a row of metrics per epoch in ``points``; see :func:`replay`."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.points: list[dict[str, float | str]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        replay(trainer.loggers, self.points)  # of the epochs before a fit was killed

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        # The trainer logs every n-th step; an epoch shorter than that also needs a training loss.
        every = min(trainer.log_every_n_steps, int(trainer.num_training_batches))
        trainer.log_every_n_steps = every

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
    return {**row, "kept_epoch": epoch}


def replay(loggers: Sequence[Logger], curves: Sequence[Mapping[str, Any]]) -> None:
    """Log the stored curves of a phase, {phase, step, metric: value} per row, as a fit does.

    Its steps and epochs count from 0, ``step`` is the number of steps that were made.
    """
    for epoch, row in enumerate(curves):
        metrics = {f"{row['phase']}/{k}": v for k, v in row.items() if k not in ("phase", "step")}
        metrics["epoch"] = row.get("kept_epoch", epoch)
        for logger in loggers:
            logger.log_metrics({**metrics}, step=max(row["step"] - 1, 0))
    for logger in loggers:
        logger.save()


class Batches(Callback):
    """Counts the batches of a pass by a bar."""

    def __init__(self, what: str = "selection slice") -> None:
        self.what = what
        self.bar: Any = None

    def _start(self, trainer: L.Trainer, total: Any, what: str) -> None:
        self._stop()
        self.bar = console.bar(int(total), what)

    def _count(self, *_: Any, **__: Any) -> None:
        if self.bar is not None:
            self.bar.update()

    def _stop(self, *_: Any, **__: Any) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        of_pass = trainer.num_sanity_val_batches if trainer.sanity_checking else None
        self._start(trainer, sum(of_pass or trainer.num_val_batches), self.what)

    def on_test_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._start(trainer, sum(trainer.num_test_batches), self.what)

    on_validation_batch_end = on_test_batch_end = _count
    on_validation_end = on_test_end = on_exception = _stop


class EpochLines(Batches):
    """Logs lines such as ``epoch 3 of 8  accuracy 81.2  loss 0.43  about 20 s left``.

    Score and loss are those of the selection slice. Epoch 0 is the state before training.

    Args:
        phase: prefix of the logged metrics.
        metric: the task's main one.
    """

    def __init__(self, phase: str, metric: str) -> None:
        super().__init__()
        self.phase, self.metric = phase, metric
        self.began = 0.0
        self.first = 0  # epoch from which a killed fit goes on

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._say(trainer, 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.began = time.perf_counter()
        self.first = trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        place = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self._start(trainer, trainer.num_training_batches, place)

    on_train_batch_end = Batches._count

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._stop()
        done, most = trainer.current_epoch + 1, trainer.max_epochs or 0
        left = (time.perf_counter() - self.began) / (done - self.first) * (most - done)
        self._say(trainer, done, left)

    def _say(self, trainer: L.Trainer, epoch: int, left: float = 0.0) -> None:
        found = trainer.callback_metrics
        score = 100 * found[f"{self.phase}/select_{self.metric}"].item()
        loss = found[f"{self.phase}/select_loss"].item()
        rest = f"  about {console.duration(left)} left" if left else ""
        place = f"epoch {epoch} of {trainer.max_epochs}"
        log.info("%s  %s %.1f  loss %.2f%s", place, self.metric, score, loss, rest)
