"""retune: the prompt, with low-rank updates of what is left, is trained again."""

from lightning.pytorch.loggers import Logger

from skip_exp.config.train import RetuneConfig
from skip_exp.job.job import Job
from skip_exp.models.cost import flops
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.fit import fit, teacher_of
from skip_exp.phases.prune import Pruned
from skip_exp.training.length import after_cut, cost_left, for_rows


def retune(
    job: Job, dense: SoftPromptModel, pruned: Pruned, logger: Logger | None
) -> tuple[SoftPromptModel, int]:
    """The final model, trained again if ``retune.enabled``; ``pruned`` is not changed.

    Returns the model and the maximum number of re-tuning epochs, 0 without re-tuning.
    """
    model, settings = pruned.model.copy(), job.cfg.retune
    if not settings.enabled:
        model.train_only(job.cfg.tune.train)  # the skill stores what was trained, nothing else
        return model.eval(), 0
    model.train_only(settings.train, settings.rank, job.seed("retune"))
    settings = lengthened(job, dense, pruned)
    fit(job, model, settings, "retune", logger, teacher_of(job, dense))
    return model.eval(), settings.epochs or 0


def lengthened(job: Job, dense: SoftPromptModel, pruned: Pruned) -> RetuneConfig:
    """The settings with the given epochs, or as many as ``retune.budget`` allows or few rows need.

    FLOPs are counted at the mean length of the train rows, so all machines get the same number.
    """
    settings, lengths = job.cfg.retune, [len(row["input_ids"]) for row in job.data.train]
    mean = round(sum(lengths) / len(lengths))
    more = 1 + (len(job.data.unlabelled) / len(lengths) if settings.distill else 0)
    cost = more * cost_left(flops(pruned.model, mean) / flops(dense, mean))
    few = for_rows(settings, round(more * len(lengths)))
    return max(after_cut(settings, cost), few, key=lambda each: each.epochs or 0)
