"""benchmark: how much faster the final model is, both models in one process and in turn."""

import logging
import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from skip_exp.config.schema import BenchmarkConfig
from skip_exp.job import attempts
from skip_exp.job.identity import here
from skip_exp.job.job import Job
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.rebuild import whole_model
from skip_exp.skill.skill import Skill
from skip_exp.training.trainer import root_device
from skip_exp.utils.timing import alone, interleave, place

log = logging.getLogger(__name__)

WARMUP = 3  # untimed passes of each model


def benchmark(job: Job, dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, Any]:
    """Latency of both models on the trainer's device, and the place for which it holds."""
    latency = compare(dense, final, job.cfg.benchmark, str(root_device(job.trainer)))
    return latency | {"place": here(job.cfg.trainer.accelerator)}


def again(job: Job, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """``latency`` and ``retimed`` of an earlier result's skill, here and now; {} to keep its own.

    Raises:
        SkipError: the skill cannot be read any more.
    """
    if attempts.holds(job.cfg, earlier):
        return {}
    log.info("timing both models again: %s", attempts.stale(job.cfg, earlier))
    accelerator, device = job.cfg.trainer.accelerator, str(root_device(job.trainer))
    return retimed(Path(earlier["path"]), earlier, job.cfg.benchmark, accelerator, device)


def retimed(
    path: Path,
    earlier: Mapping[str, Any],
    settings: BenchmarkConfig,
    accelerator: str,
    device: str,
) -> dict[str, Any]:
    """``latency`` and ``retimed`` of a finished result's models; {} to keep its quiet timing.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.

    Args:
        path: the result's file, beside its skill.

    Raises:
        SkipError: its skill or backbone cannot be read any more.
    """
    skill = Skill.load(path.parent / earlier["skill"])
    dense = whole_model(skill.about, skill.tokenizer)
    latency, before = compare(dense, skill.model, settings, device), earlier["latency"]
    if latency["contended"] and before and not before.get("contended"):
        log.warning("%s: keeping its timing, which was taken on a quiet machine", path)
        return {}
    return {"latency": latency | {"place": here(accelerator)}, "retimed": True}


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
    if not contended:
        log.info(
            "%.1f ms -> %.1f ms per batch of %d: %.2fx", dense_ms, final_ms, settings.batch, speedup
        )
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
