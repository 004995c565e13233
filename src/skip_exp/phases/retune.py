"""retune: the prompt, with biases and norms, is trained again on what is left."""

from lightning.pytorch.loggers import Logger

from skip_exp.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel, load_trainable, trainable_state
from skip_exp.phases.fit import fit, teacher_logits
from skip_exp.phases.prune import Pruned
from skip_exp.pruning.surgery import cut
from skip_exp.training.length import after_cut, cost_left


def retune(
    job: Job, dense: SoftPromptModel, pruned: Pruned, ratio: float | None, logger: Logger | None
) -> SoftPromptModel:
    """The final model; ``pruned`` stays as it is.

    Args:
        ratio: what was removed, which tells how much longer re-tuning may take; None where the
            goal was a speed-up.
    """
    model, settings = pruned.model.copy(), job.cfg.retune
    model.train_only(settings.train)
    if settings.init == "scratch":
        load_trainable(model, trainable_state(cut(job.new_model(), pruned.keep)))
    if settings.enabled:
        cost = cost_left(ratio, job.cfg.prune.goal.target_speedup)
        teacher = teacher_logits(job, dense)
        fit(job, model, after_cut(settings, cost), "retune", logger, teacher)
    return model.eval()
