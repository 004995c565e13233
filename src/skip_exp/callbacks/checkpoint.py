"""Saves a fit after its epochs, so that one that is killed goes on from there, bit by bit."""

import logging
import os
import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from skip_exp.errors import first_line

log = logging.getLogger(__name__)

FIRST = 10.0  # seconds of a fit before it is saved for the first time
SHARE = 0.02  # of a fit's time that saving may take
SAVE_RATE = 3e7  # trained parameters saved per second, with what Adam and `KeepLast` keep
RANDOM = "random"  # entry of a checkpoint: states of the generators


class Checkpoint(Callback):
    """Saves what is trained, optimizer, schedule, callbacks and generators at the end of epochs.

    An epoch is left out if saving would take more than ``SHARE`` of the time since the last save.

    Args:
        path: of the file, which is replaced whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved = 0.0  # when, in seconds of the monotonic clock
        self.cost = 0.0  # seconds that the last save took, or the first one is expected to take

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.saved = time.monotonic()
        self.cost = sum(p.numel() for p in pl_module.parameters() if p.requires_grad) / SAVE_RATE

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        began = time.monotonic()
        if began - self.saved < max(FIRST, self.cost / SHARE):
            return
        trainer.save_checkpoint(self.path, weights_only=False)
        self.saved = time.monotonic()
        self.cost = self.saved - began

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[RANDOM] = _random_state()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # Before any loader is iterated: each draws a seed for its workers, used or not.
        _set_random_state(checkpoint[RANDOM])


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, without Lightning's copies in memory and in /tmp."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        temporary = Path(f"{path}.tmp")
        try:
            with temporary.open("wb") as file:  # by a path, a full disk were a RuntimeError
                torch.save(checkpoint, file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


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
    place = saved["epoch"] + 1, module.settings.epochs
    log.info("%s: goes on after epoch %d of %d", module.phase, *place)
    return path


def _random_state() -> dict[str, Any]:
    """The state of the global generators, as plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)
    on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": on_gpu,
    }


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
