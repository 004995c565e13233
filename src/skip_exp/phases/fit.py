"""What tune and retune share: one fit of a model's trainable part, on one process or several."""

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from skip_exp.cache.store import Entry
from skip_exp.callbacks.curves import Curves, kept, replay
from skip_exp.callbacks.keep_best import KeepBest
from skip_exp.config.schema import TrainConfig
from skip_exp.data.batches import Batch
from skip_exp.data.metrics import build_metrics
from skip_exp.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training import processes, trainer
from skip_exp.training.module import PromptTuner


def fit(
    job: Job,
    model: SoftPromptModel,
    settings: TrainConfig,
    phase: str,
    logger: Logger | None,
    teacher: Tensor | None = None,
) -> tuple[KeepBest, Curves]:
    """Train ``model`` in place; it ends on the best epoch of the selection slice.

    Args:
        phase: prefix of what is logged; also tells the seed.
        teacher: the dense model's logits [train rows, labels] where the loss has them.
    """
    distill = 0.0 if teacher is None else job.cfg.retune.distill
    tuner = PromptTuner(model, phase, settings, build_metrics(job.data.spec), distill)
    run = processes.fit if job.trainer.devices > 1 else trainer.fit
    data = job.batches(settings, phase, teacher)
    best, curves = run(tuner, data, job.trainer, job.metric, job.seed(phase), logger)
    replay(logger, [kept(phase, curves.points, best.epoch)])
    return best, curves


def teacher_logits(job: Job, dense: SoftPromptModel) -> Tensor | None:
    """The dense model's answers to every train row [rows, labels], once for all ratios.

    None where re-tuning does not ask for them.
    """
    if not (job.cfg.retune.enabled and job.cfg.retune.distill):
        return None

    def compute() -> Entry:
        device = trainer.root_device(job.trainer)
        model = dense.to(device).eval()

        @torch.inference_mode()
        def answer(batch: Batch) -> Tensor:
            on_device = {name: t.to(device) for name, t in batch.items() if name != "labels"}
            return model(**on_device)

        return Entry({"logits": job.batches(job.cfg.retune, "retune").train_logits(answer)}, {})

    return job.stage("teacher", compute).tensors["logits"]
