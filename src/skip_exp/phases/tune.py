"""tune: a soft prompt and a readout are trained on the frozen backbone."""

import logging

from lightning.pytorch.loggers import Logger

from skip_exp.cache.store import Entry
from skip_exp.callbacks.curves import kept, replay
from skip_exp.job.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable, trainable_state
from skip_exp.phases.fit import fit

log = logging.getLogger(__name__)


def tune(job: Job, logger: Logger | None) -> tuple[SoftPromptModel, float, bool]:
    """The dense model: prompt and readout tuned on the frozen backbone, or from the cache.

    Returns it, its cross-fitted score and whether it was cached; its curves are logged in any case.
    """
    model = job.new_model()

    def compute() -> Entry:
        best, curves = fit(job, model, job.cfg.tune, "tune", logger)
        values = {"curves": curves.points, "epoch": best.epoch, "crossfit": best.crossfit}
        return Entry(trainable_state(model), values)

    entry = job.stage("tune", compute)
    if entry.hit:
        load_trainable(model, entry.tensors)
        curves, epoch = entry.values["curves"], entry.values["epoch"]
        replay(logger, [*curves, kept("tune", curves, epoch)])
        log.info("tune: cached (best %s)", after(entry.values["epoch"] + 1))
    return model, entry.values["crossfit"], entry.hit


def after(epochs: int) -> str:
    """When a fit was at its best, in words."""
    if not epochs:
        return "before its first epoch"
    return f"after {epochs} epoch{'s' if epochs > 1 else ''}"
