"""Logs one line per epoch where a progress bar would clutter the output."""

import logging
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs lines such as ``tune: epoch 3 of 8: train_loss 0.43, ...``."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        # The processes of a distributed fit have no access to the job's log.
        say = log.info if trainer.world_size == 1 else print
        prefix = f"{pl_module.phase}/"
        metrics = [
            f"{name.removeprefix(prefix)} {value.item():.4g}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith(prefix)
        ]
        place = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        say(f"{pl_module.phase}: {place}: {', '.join(metrics)}")
