"""Time: of a job's phases, of its two models, and again where an earlier timing does not hold."""

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from skip_exp.config.schema import BenchmarkConfig
from skip_exp.job.job import Job
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.load import Skill
from skip_exp.skill.rebuild import whole_model
from skip_exp.training.trainer import root_device
from skip_exp.utils.timing import alone, interleave, place

log = logging.getLogger(__name__)

WARMUP = 3  # untimed passes of each model


class Clock:
    """Announces each phase and measures it; ``seconds`` by phase, and of all since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.phases: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure one phase."""
        log.info("%s ...", phase)
        start = time.perf_counter()
        yield
        self.phases[phase] = time.perf_counter() - start

    @property
    def seconds(self) -> dict[str, float]:
        return self.phases | {"total": time.perf_counter() - self.start}


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
            warmup=WARMUP,
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


def again(job: Job, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """``latency`` and ``retimed`` of an earlier result's skill, here and now; {} where its holds.

    It does not where it was disturbed, or is of another device or number of threads.

    Raises:
        SkipError: the skill cannot be read any more.
    """
    device = str(root_device(job.trainer))
    why = _why(earlier["latency"], place(device))
    if not (why and job.cfg.benchmark.enabled):
        return {}
    log.info("done before; timed again: %s", why)
    skill = Skill.load(Path(earlier["path"]).parent / earlier["skill"])
    dense = whole_model(skill.about, skill.tokenizer)  # as fast as the tuned one
    return {"latency": compare(dense, skill.model, job.cfg.benchmark, device), "retimed": True}


def _why(latency: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Why an earlier timing is not one of this place; empty where it is."""
    if latency.get("contended"):
        return "it was contended"
    there = {name: latency.get(name) for name in here}
    told = ["{device}, threads={threads}".format(**place) for place in (there, here)]
    return "" if there == here else f"measured on {told[0]}, running on {told[1]}"
