"""benchmark: how much faster the final model is; both in one process, same batches, in turn."""

import statistics
from functools import partial
from typing import Any

import torch

from skip_exp.config.schema import BenchmarkConfig
from skip_exp.job import Job
from skip_exp.machine.timing import alone, interleave, place
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.training.trainer import root_device


def benchmark(job: Job, dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, Any]:
    """Latency of both models on the device that the trainer uses; see :func:`compare`."""
    return compare(dense, final, job.cfg.benchmark, str(root_device(job.trainer)))


def compare(
    dense: SoftPromptModel, final: SoftPromptModel, settings: BenchmarkConfig, device: str
) -> dict[str, Any]:
    """Forward passes of both models in turn, in fp32, no other measurement of this user beside it.

    Returns:
        The ``latency`` fields of a result: milliseconds per batch (medians), ``speedup`` (median of
        the ratios, pair by pair), ``spread`` (half the interquartile range of these ratios),
        ``contended`` (other processes used the machine meanwhile).
    """
    models = [model.on(device).eval() for model in (dense, final)]
    inputs = random_batch(models[0], settings.batch, settings.seq_len)
    times, contended = alone(
        lambda: interleave(
            [partial(model, **inputs) for model in models],
            repeats=settings.repeats,
            warmup=settings.warmup,
            synchronise=torch.cuda.synchronize if device.startswith("cuda") else None,
        )
    )
    ratios = [a / b for a, b in zip(*times, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (0.0, 0.0, 0.0)
    return {
        "batch": settings.batch,
        "seq_len": settings.seq_len,
        **place(device),
        "dtype": "float32",
        "dense_ms": statistics.median(times[0]) * 1e3,
        "final_ms": statistics.median(times[1]) * 1e3,
        "speedup": statistics.median(ratios),
        "spread": (high - low) / 2,
        "contended": contended,
    }
