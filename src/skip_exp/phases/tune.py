"""tune: a soft prompt and a readout are trained on the frozen backbone."""

import logging

from lightning.pytorch.loggers import Logger

from skip_exp.cache.store import Entry
from skip_exp.callbacks.curves import kept, replay
from skip_exp.job.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable, trainable_state
from skip_exp.phases.fit import fit, log_kept, start_readout

log = logging.getLogger(__name__)


def tune(job: Job, logger: Logger | None) -> tuple[SoftPromptModel, bool]:
    """Train the prompt and the readout, or load them from the cache; the curves are logged.

    Returns the dense model and whether it was cached.
    """
    model = job.new_model()
    if job.cfg.tune.train == "none":
        log.info("tune: the model stays as it is (tune.train=none)")
        return model, False

    def compute() -> Entry:
        start_readout(job, model)
        last, curves = fit(job, model, job.cfg.tune, "tune", logger)
        found = {"curves": curves.points, "epoch": last.epoch, "score": last.score}
        return Entry(trainable_state(model), found)

    entry = job.stage("tune", compute)
    if entry.hit:
        load_trainable(model, entry.tensors)
        curves, epoch = entry.values["curves"], entry.values["epoch"]
        replay(logger, [*curves, kept("tune", curves, epoch)])
        log_kept(job.metric, epoch, len(curves), entry.values["score"], "from the cache:")
    return model, entry.hit
