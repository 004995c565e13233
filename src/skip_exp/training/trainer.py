"""The trainers that fit and score a `PromptTuner`."""

import logging
import multiprocessing
import sys
from dataclasses import replace

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from skip_exp.callbacks.curves import Curves
from skip_exp.callbacks.epochs import EpochLines
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.config.schema import TrainerConfig
from skip_exp.errors import ConfigError
from skip_exp.models.precision import multiplies_bf16
from skip_exp.training.module import PromptTuner

log = logging.getLogger(__name__)


def usable(settings: TrainerConfig) -> TrainerConfig:
    """The settings with ``auto`` resolved: CUDA where it is, bf16 where it is computed natively.

    Not Lightning's ``auto``, which takes Apple's GPU first: that has no fp64, which attribution
    sums in.

    Raises:
        ConfigError: an accelerator, a precision or a number of devices that cannot be had.
    """
    cuda = torch.cuda.is_available()
    if settings.accelerator in ("gpu", "cuda") and not cuda:
        why = "there is none that PyTorch can use; must be auto or cpu here"
        raise ConfigError("trainer.accelerator", settings.accelerator, why)
    accelerator = "cuda" if cuda and settings.accelerator != "cpu" else "cpu"
    if settings.precision == "16-mixed" and accelerator == "cpu":  # Lightning would take bf16
        why = "needs a GPU; must be auto, 32-true or bf16-mixed here"
        raise ConfigError("trainer.precision", settings.precision, why)
    devices = settings.devices
    gpus = 0 if accelerator == "cpu" else torch.cuda.device_count()
    if gpus and devices > gpus:
        raise ConfigError("trainer.devices", devices, f"at most {gpus} GPUs can be used")
    if devices > 1 and _beside_others():
        why = "hydra/launcher=joblib runs jobs of one device each"  # its workers start nothing
        raise ConfigError("trainer.devices", devices, why)
    precision = resolve_precision(settings.precision, accelerator)
    return replace(settings, accelerator=accelerator, precision=precision)


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
    settings: TrainerConfig,
    metric: str,
    seed: int,
    logger: Logger | None,
) -> tuple[KeepBest, Curves]:
    """Train ``tuner``; its model ends on the best epoch of the selection slice.

    With several devices, this is one of the processes that ``training.processes.fit`` starts.
    """
    best, curves = KeepBest(tuner.phase, metric), Curves(tuner.phase)
    trainer = fit_trainer(tuner, settings, metric, logger, [best, curves])
    L.seed_everything(seed, verbose=False)
    trainer.fit(tuner, data)
    return best, curves


def fit_trainer(
    tuner: PromptTuner,
    settings: TrainerConfig,
    metric: str,
    logger: Logger | None,
    callbacks: list[Callback],
) -> L.Trainer:
    """A trainer for one phase: early stopping on the selection slice, clipping, no checkpoints."""
    several = settings.devices > 1
    name = f"{tuner.phase}/select_{metric}"
    told = progress(settings)
    stop = EarlyStopping(name, mode="max", patience=tuner.settings.patience, check_finite=False)
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        # A sublayer that was cut away entirely leaves its norm and its prefix without a gradient.
        # Buffers are constants, and the processes score different numbers of batches.
        strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        if several
        else "auto",
        plugins=LightningEnvironment() if several else None,  # on a cluster, too
        use_distributed_sampler=False,  # the data module deals out the rows
        precision=settings.precision,  # type: ignore[arg-type]  # checked by TrainerConfig
        max_epochs=tuner.settings.epochs,
        gradient_clip_val=tuner.settings.clip,
        logger=logger or False,
        callbacks=[*callbacks, stop, *told],
        deterministic=True,
        num_sanity_val_steps=-1,
        log_every_n_steps=10,
        enable_progress_bar=any(isinstance(callback, TQDMProgressBar) for callback in told),
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def eval_trainer(settings: TrainerConfig, callbacks: list[Callback] | None = None) -> L.Trainer:
    """A trainer that scores splits in fp32, whatever precision trained."""
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision="32-true",
        logger=False,
        callbacks=callbacks or [],
        deterministic=True,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def act_between(settings: TrainerConfig, module: PromptTuner, callback: Callback) -> None:
    """A pass over no batches: the callback acts in its ``setup``, with the trainer's device.

    ``module.model`` may be another one afterwards.
    """
    trainer = eval_trainer(settings, [callback])
    trainer.limit_val_batches = 0
    trainer.validate(module, [0], verbose=False)


def root_device(settings: TrainerConfig) -> torch.device:
    """The device that a trainer with these settings works on."""
    return eval_trainer(settings).strategy.root_device


def progress(settings: TrainerConfig) -> list[Callback]:
    """A bar on a terminal of one's own, which it redraws; elsewhere a line per epoch."""
    if not settings.progress:
        return []
    draws = sys.stdout.isatty() and not _beside_others()
    return [TQDMProgressBar(refresh_rate=10) if draws else EpochLines()]


def _beside_others() -> bool:
    """Whether this is a worker of joblib: they share a terminal."""
    return multiprocessing.get_start_method(allow_none=True) == "loky"
