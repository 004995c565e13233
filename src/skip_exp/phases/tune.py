"""tune: a soft prompt, a readout and what `tune.train` names of the backbone are trained."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from skip_exp.backbones.load import Backbone
from skip_exp.cache.store import Entry, Keyed, stage_key
from skip_exp.callbacks.fit import mark_kept, replay
from skip_exp.config.groups import TuneConfig
from skip_exp.config.schema import PromptConfig, TrainerConfig
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import load_trainable, trainable_state
from skip_exp.phases.build import build_model, phase_seed
from skip_exp.phases.fit import count_epochs, fit, log_kept, start_readout
from skip_exp.phases.job import Job
from skip_exp.phases.start import Start
from skip_exp.training.trainer import root_device

log = logging.getLogger(__name__)


def tune(job: Job) -> tuple[Keyed[SoftPromptModel], str]:
    """The dense model, and whether its training was a hit or a miss; the curves are logged."""
    arguments = job.dense_arguments
    stage, key = fit_dense.__name__, stage_key(fit_dense.__name__, arguments)
    if job.cfg.tune.is_given:
        log.info("tune: the model stays as it is")
        return Keyed(key, job.new_model), "miss"
    unfinished = job.cache.unfinished(stage, key, "ckpt")
    entry = job.cache.stage(fit_dense, job.trainer, job.loggers, unfinished, **arguments)
    model = job.new_model()
    load_trainable(model, entry.tensors)
    if entry.hit:
        curves, epoch = entry.values["curves"], entry.values["epoch"]
        replay(job.loggers, [*curves, mark_kept("tune", curves, epoch)])
        log_kept(job.metric, epoch, len(curves), entry.values["score"], "from the cache:")
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
    extra: Mapping[str, Any] | None = None,
) -> Entry:
    """Train the dense model: its trained parameters, its curves, and the epoch that it kept."""
    assert precision == trainer.precision  # `auto` is resolved
    assert (extra or {}) == trainer.extra
    on_cpu = root_device(trainer).type == "cpu"
    model = build_model(
        data, backbone, pooling, prompt, settings, start, seed, shares_backbone=on_cpu
    )
    start_readout(trainer, model, data, backbone.path)
    own = phase_seed(seed, "tune")
    rows = TextDataModule(data, settings.batch, own)
    epochs = count_epochs(settings, len(data.train))
    last, curves = fit(trainer, loggers, model, rows, settings, epochs, own, unfinished=unfinished)
    found: dict[str, Any] = {"curves": curves.points, "epoch": last.epoch, "score": last.score}
    return Entry(trainable_state(model), found, keep=not last.timed_out)
