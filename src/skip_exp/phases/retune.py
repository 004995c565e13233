"""retune: what is left is trained again, as `retune.train` says."""

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger

from skip_exp.cache.store import JOB_STAGE, Entry, Keyed
from skip_exp.config.schema import TrainerConfig
from skip_exp.data.batches import Row
from skip_exp.data.module import TextDataModule
from skip_exp.data.rows import Rows
from skip_exp.models.shapes import flops
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.trained import train_only
from skip_exp.phases.fit import ask, count_epochs, count_paid_epochs, fit, start_readout
from skip_exp.phases.job import Job


def retune(
    job: Job, dense: Keyed[SoftPromptModel], pruned: SoftPromptModel, loggers: Sequence[Logger]
) -> tuple[SoftPromptModel, int, bool]:
    """The final model, trained again if ``retune.enabled``; ``pruned`` is not changed.

    Returns the model, the number of re-tuning epochs, 0 without re-tuning, and whether the clock
    ended them.
    """
    model, settings, seed = pruned.copy(), job.cfg.retune, job.seed("retune")
    if not settings.enabled:
        train_only(model, job.cfg.tune.train)  # the skill stores what was trained, nothing else
        return model.eval(), 0, False
    train_only(model, settings.train, settings.rank, seed)
    if settings.train == "prompt_readout":  # a frozen backbone cannot move its features back
        start_readout(job.trainer, model, job.data, job.backbone.path, "retune")
    epochs = plan_epochs(job, dense.value, pruned)
    if settings.distill:
        arguments = {"dense": dense, "data": job.dense_arguments["data"], "texts": job.taught}
        logits = job.cache.stage(ask_teacher, job.trainer, **arguments).tensors["logits"]
        rows = TextDataModule(
            job.data,
            settings.batch,
            seed,
            teacher=logits,
            rows=job.taught.value,
            versions=1 + settings.copies,
        )
    else:
        rows = TextDataModule(job.data, settings.batch, seed)
    last, _ = fit(
        job.trainer,
        loggers,
        model,
        rows,
        settings,
        epochs,
        seed,
        settings.distill,
        job.cache.unfinished(JOB_STAGE, job.key, "ckpt"),
    )
    return model.eval(), epochs, last.timed_out


def plan_epochs(job: Job, dense: SoftPromptModel, pruned: SoftPromptModel) -> int:
    """The given epochs, or as many as ``retune.budget`` pays or few rows need.

    FLOPs are counted at the mean length of the train rows, so all machines get the same number.
    """
    settings, lengths = job.cfg.retune, [len(row["input_ids"]) for row in job.data.train]
    mean = round(sum(lengths) / len(lengths))
    operations = flops(pruned, mean) / flops(dense, mean)
    return max(count_paid_epochs(settings, operations), count_epochs(settings, len(lengths)))


def ask_teacher(
    trainer: TrainerConfig, *, dense: SoftPromptModel, data: Rows, texts: list[Row]
) -> Entry:
    """The dense model's logits of the texts [rows, labels], computed once for all ratios."""
    rows = TextDataModule(data, 1, 0, rows=texts)
    logits = ask(trainer, dense, rows, lambda model, inputs: model(**inputs), "teacher")
    return Entry({"logits": logits})
