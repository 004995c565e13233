"""test and benchmark: how good the dense, the pruned and the final model are, and how fast.

The reported split is scored once. Both models of a timing are in one process, and run in turn.
"""

import logging
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from skip_exp.cache.store import Entry, Keyed
from skip_exp.config.schema import BenchmarkConfig, TrainerConfig
from skip_exp.data.rows import Rows, get_labels
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import random_batch
from skip_exp.phases.fit import ask
from skip_exp.phases.job import Job
from skip_exp.skill.files import whole_model
from skip_exp.skill.skill import Skill
from skip_exp.utils.timing import alone, describe_place, interleave, place

log = logging.getLogger(__name__)

WARMUP = 3  # untimed passes of each model


def test(
    job: Job, dense: Keyed[SoftPromptModel], pruned: SoftPromptModel, final: SoftPromptModel
) -> dict[str, Entry]:
    """Scores of the three models, in fp32; without re-tuning pruned and final are the same."""
    data = job.dense_arguments["data"]
    entry = job.cache.stage(score_model, job.trainer, model=dense, data=data)  # for all ratios
    _log("dense", entry.values, " (from the cache)" if entry.hit else "")
    cut = score_model(job.trainer, model=pruned, data=job.data)
    _log("pruned", cut.values)
    if not job.cfg.retune.enabled:
        return {"dense": entry, "pruned": cut, "final": cut}
    retuned = score_model(job.trainer, model=final, data=job.data)
    _log("final", retuned.values)
    return {"dense": entry, "pruned": cut, "final": retuned}


def _log(state: str, found: dict[str, Any], note: str = "") -> None:
    scores = (f"{name} {100 * value:.1f}" for name, value in found["scores"]["validation"].items())
    log.info("%-6s  %s%s", state, "  ".join(scores), note)


def score_model(trainer: TrainerConfig, *, model: SoftPromptModel, data: Rows) -> Entry:
    """Every metric on the selection slice, the validation split and the task's extra splits.

    With several labels per text, the slice sets the logit above which a label is given. The values
    are {scores: {split: {metric: value}}}, the tensors the logits of each split [rows, labels].
    """
    spec, outcome = data.spec, data.spec.outcome
    splits = {"select": data.select, "validation": data.validation, **data.extra}
    logits: dict[str, Tensor] = {}
    labels: dict[str, Any] = {}
    for name, rows in splits.items():
        logits[name] = ask(
            trainer, model, data, rows, lambda model, inputs: model(**inputs), "scoring"
        )
        labels[name] = np.array(get_labels(rows))
    bound = outcome.find_bound(logits["select"].numpy(), labels["select"])
    scores = {}
    for name in splits:
        scores[name] = outcome.score(spec.metrics, logits[name].numpy(), labels[name], bound)
    return Entry(logits, {"scores": scores})


def benchmark(job: Job, done: Entry) -> dict[str, Any]:
    """The ``latency`` of a finished job's models, from the cache where it was taken here."""
    place, settings = describe_place(job.device), job.cfg.benchmark
    return job.cache.stage(
        time_models,
        job.output / "skill",
        job.device,
        job=Keyed(done.key, lambda: done.key, done.keep),
        settings=settings,
        place=place,
    ).values


def time_models(
    skill: Path, device: str, *, job: str, settings: BenchmarkConfig, place: list[Any]
) -> Entry:
    """Time a skill against its dense model; under load the timing is not kept.

    The dense model's weights do not matter to its speed: it is rebuilt, not loaded.

    Raises:
        SkipError: the skill or its backbone cannot be read any more.
    """
    loaded = Skill.load(skill)
    latency = compare(whole_model(loaded.about), loaded.model, settings, device)
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
