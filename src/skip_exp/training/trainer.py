"""Lightning trainers that fit a model on one device."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from skip_exp.callbacks.fit import (
    Checkpoint,
    Curves,
    EpochLines,
    KeepLast,
    find_checkpoint,
)
from skip_exp.config.schema import TrainerConfig
from skip_exp.errors import ConfigError
from skip_exp.training.module import PromptTuner
from skip_exp.utils.machine import multiplies_bf16

log = logging.getLogger(__name__)

CLIP = 1.0  # largest norm of the gradient


def usable(settings: TrainerConfig) -> TrainerConfig:
    """Resolve ``auto`` to CUDA if present, and to bf16 where the device computes it faster.

    Lightning's own ``auto`` prefers Apple's GPU, which lacks the fp64 that attribution sums in.

    Raises:
        ConfigError: this machine lacks the accelerator or the precision.
    """
    wanted = settings.accelerator
    precision = settings.precision
    cuda = torch.cuda.is_available()
    if wanted in ("gpu", "cuda") and not cuda:
        raise ConfigError(
            "trainer.accelerator", wanted, "PyTorch finds no GPU; must be auto or cpu here"
        )
    accelerator = "cuda" if cuda and wanted != "cpu" else "cpu"
    if precision == "16-mixed" and accelerator == "cpu":  # Lightning would silently use bf16
        raise ConfigError(
            "trainer.precision", precision, "needs a GPU; must be auto, 32-true or bf16-mixed here"
        )
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if accelerator == "cuda"
            else multiplies_bf16()
        )
        precision = "bf16-mixed" if native else "32-true"
    return replace(settings, accelerator=accelerator, precision=precision)


def root_device(settings: TrainerConfig) -> torch.device:
    """Device of a trainer with :func:`usable` settings."""
    return torch.device("cuda", 0) if settings.accelerator == "cuda" else torch.device("cpu")


def fit(
    tuner: PromptTuner,
    data: L.LightningDataModule,
    settings: TrainerConfig,
    metric: str,
    seed: int,
    loggers: Sequence[Logger],
    select_rows: int,
    unfinished: Path | None = None,
) -> tuple[KeepLast, Curves]:
    """Train ``tuner``; its model ends on the last good epoch, see `KeepLast`, in eval mode.

    Args:
        select_rows: of the selection slice.
        unfinished: file for the state of the fit, from which it goes on if it was killed.
    """
    last = KeepLast(tuner.phase, metric, select_rows)
    curves = Curves(tuner.phase)
    callbacks: list[Callback] = [last, curves]
    if unfinished:
        callbacks.append(Checkpoint(unfinished))
    if settings.progress:
        callbacks.append(EpochLines(tuner.phase, metric))
    checkpoint = find_checkpoint(unfinished, tuner)
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        deterministic=True,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=tuner.settings.epochs,
        gradient_clip_val=CLIP,
        callbacks=callbacks,
        logger=loggers or False,
        # The state before training was scored before the fit was killed.
        num_sanity_val_steps=0 if checkpoint else -1,
        log_every_n_steps=10,
        enable_checkpointing=False,  # what is printed and saved is the callbacks' own
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    # Here, not in the caller: what came before may have drawn, or have been cached and not drawn.
    L.seed_everything(seed, verbose=False)
    try:
        trainer.fit(tuner, data, ckpt_path=checkpoint, weights_only=True)
    finally:
        tuner.eval()  # later jobs of this process share the backbone
    return last, curves
