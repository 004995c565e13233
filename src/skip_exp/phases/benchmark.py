"""benchmark: how much faster the final model is; both in one process, same batches, in turn."""

from typing import Any

from skip_exp.job.job import Job
from skip_exp.job.timing import compare
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.trainer import root_device


def benchmark(job: Job, dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, Any]:
    """Latency of both models on the device that the trainer uses; see :func:`compare`."""
    return compare(dense, final, job.cfg.benchmark, str(root_device(job.trainer)))
