"""benchmark: how much faster the final model is, both models in one process and in turn."""

import logging
import statistics
from functools import partial
from pathlib import Path
from typing import Any

from skip_exp.cache.store import Entry, Keyed
from skip_exp.config.schema import BenchmarkConfig
from skip_exp.models.shapes import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.job import Job
from skip_exp.skill.rebuild import whole_model
from skip_exp.skill.skill import Skill
from skip_exp.utils.timing import alone, describe_place, interleave, place

log = logging.getLogger(__name__)

WARMUP = 3  # untimed passes of each model


def benchmark(job: Job, done: Entry) -> dict[str, Any]:
    """The ``latency`` of a finished job's models, from the cache where it was taken here."""
    place, settings = describe_place(job.device), job.cfg.benchmark
    key = Keyed(done.key, lambda: done.key, done.keep)
    arguments = {"job": key, "settings": settings, "place": place}
    return job.cache.stage(time_models, job.output / "skill", job.device, **arguments).values


def time_models(
    skill: Path, device: str, *, job: str, settings: BenchmarkConfig, place: list[Any]
) -> Entry:
    """Time a skill against its dense model; under load the timing is not kept.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.

    Raises:
        SkipError: the skill or its backbone cannot be read any more.
    """
    loaded = Skill.load(skill)
    dense = whole_model(loaded.about)
    latency = compare(dense, loaded.model, settings, device)
    return Entry(values=latency, keep=not latency["contended"])


def compare(
    dense: SoftPromptModel, final: SoftPromptModel, settings: BenchmarkConfig, device: str
) -> dict[str, Any]:
    """Time forward passes of both models in turn, in fp32.

    Returns:
        The ``latency`` fields of a result: milliseconds per batch (medians), ``speedup`` (median of
        the ratios of pairs), ``spread`` (half their interquartile range), ``contended`` (other
        processes took cores that it needed).
    """
    models = [model.on(device).eval() for model in (dense, final)]
    inputs = random_batch(models[0], settings.batch, settings.seq_len)
    times, contended = alone(
        lambda: interleave(
            [partial(model, **inputs) for model in models],
            repeats=settings.repeats,
            warmup=WARMUP,
            device=device,
        ),
        device=device,
    )
    ratios = [a / b for a, b in zip(*times, strict=True)]
    dense_ms, final_ms = (statistics.median(of_model) * 1e3 for of_model in times)
    speedup = statistics.median(ratios)
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (0.0, 0.0, 0.0)
    return {
        "batch": settings.batch,
        "seq_len": settings.seq_len,
        **place(device),
        "dtype": "float32",
        "dense_ms": dense_ms,
        "final_ms": final_ms,
        "speedup": speedup,
        "spread": (high - low) / 2,
        "contended": contended,
    }
