"""retune: the prompt, with low-rank updates of what is left, is trained again."""

from dataclasses import dataclass

from lightning.pytorch.loggers import Logger

from skip_exp.config.schema import RetuneConfig
from skip_exp.job.job import Job
from skip_exp.models.cost import flops
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.fit import fit, teacher_of
from skip_exp.phases.prune import Pruned
from skip_exp.training.length import after_cut, cost_left


@dataclass(frozen=True)
class Retuned:
    """The final model.

    Attributes:
        crossfit: its cross-fitted score; None where it was not tuned again.
        epochs: of re-tuning, at most; 0 where there was none.
    """

    model: SoftPromptModel
    crossfit: float | None = None
    epochs: int = 0


def retune(
    job: Job,
    dense: SoftPromptModel,
    pruned: Pruned,
    logger: Logger | None,
    dense_crossfit: float | None,
) -> Retuned:
    """The final model, tuned again where ``retune.enabled`` says so.

    ``pruned`` stays as it is. Where nothing was cut and no epoch was better than the dense model,
    the score is ``dense_crossfit``: both halves of the slice took part in choosing that model.
    """
    model, settings = pruned.model.copy(), job.cfg.retune
    rank = settings.rank if settings.enabled else 0  # no updates that nothing trains
    model.train_only(settings.train, rank, job.seed("retune"))
    if not settings.enabled:
        return Retuned(model.eval())
    settings = lengthened(job, dense, pruned)
    best, _ = fit(job, model, settings, "retune", logger, teacher_of(job, dense))
    is_whole = pruned.model.shapes() == dense.shapes() and not job.cfg.prune.step_epochs
    is_dense = is_whole and best.epoch < 0
    crossfit = dense_crossfit if is_dense else best.crossfit
    return Retuned(model.eval(), crossfit, settings.epochs)


def lengthened(job: Job, dense: SoftPromptModel, pruned: Pruned) -> RetuneConfig:
    """The settings with as many epochs as ``retune.budget`` allows on what is left.

    Operations are counted for a text of the train rows' mean length: the same on every machine.
    """
    lengths = [len(row["input_ids"]) for row in job.data.train]
    mean = round(sum(lengths) / len(lengths))
    left = flops(pruned.model, mean) / flops(dense, mean)
    return after_cut(job.cfg.retune, cost_left(left))
