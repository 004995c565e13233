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

from skip_exp.cache.store import Entry, Keyed, stage_key
from skip_exp.config.schema import BenchmarkConfig, TrainerConfig
from skip_exp.data.rows import Rows, get_labels
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import random_batch
from skip_exp.phases.fit import answer_batch, ask
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
    # The dense model is the same for all ratios, so its scores are cached; the others are not.
    data = job.dense_arguments["data"]
    scored = {"dense": job.cache.stage(score_model, job.trainer, model=dense, data=data)}
    scored["pruned"] = score_model(job.trainer, model=pruned, data=job.data)
    scored["final"] = scored["pruned"]
    if job.cfg.retune.enabled:
        scored["final"] = score_model(job.trainer, model=final, data=job.data)
    for state, entry in scored.items():
        scores = entry.values["scores"]["validation"]
        texts = [f"{name} {100 * score:.1f}" for name, score in scores.items()]
        log.info("%-6s  %s", state, "  ".join(texts))
    return scored


def score_model(trainer: TrainerConfig, *, model: SoftPromptModel, data: Rows) -> Entry:
    """Every metric on the selection slice, the validation split and the task's extra splits.

    With several labels per text, the slice sets the logit above which a label is given. The values
    are {scores: {split: {metric: value}}}, the tensors the logits of each split [rows, labels].
    """
    splits = {"select": data.select, "validation": data.validation} | data.extra
    logits: dict[str, Tensor] = {}
    labels: dict[str, Any] = {}
    for name, rows in splits.items():
        logits[name] = ask(trainer, model, data, rows, answer_batch, "scoring")
        labels[name] = np.array(get_labels(rows))
    # The bound is chosen on the slice and holds for every split.
    outcome = data.spec.outcome
    bound = outcome.find_bound(logits["select"].numpy(), labels["select"])
    scores = {
        name: outcome.score(data.spec.metrics, x.numpy(), labels[name], bound)
        for name, x in logits.items()
    }
    return Entry(logits, {"scores": scores})


def benchmark(job: Job, done: Entry) -> dict[str, Any]:
    """The ``latency`` of a finished job's models, from the cache where it was taken here."""
    settings = job.cfg.benchmark
    measure = partial(time_models, job.output / "skill", settings, job.device)
    if not done.keep:  # a job that is not stored has no timing that is
        return measure().values
    identity = {"job": done.key, "settings": settings, "place": describe_place(job.device)}
    return job.cache.get(time_models.__name__, stage_key(time_models, identity), measure).values


def time_models(skill: Path, settings: BenchmarkConfig, device: str) -> Entry:
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
    dense = dense.on(device).eval()
    final = final.on(device).eval()
    inputs = random_batch(dense, settings.batch, settings.seq_len)
    calls = [partial(dense, **inputs), partial(final, **inputs)]
    measure = partial(interleave, calls, repeats=settings.repeats, warmup=WARMUP, device=device)
    (dense_seconds, final_seconds), contended = alone(measure, device=device)
    # Passes are compared in pairs: both of a pair met the same load.
    ratios = [a / b for a, b in zip(dense_seconds, final_seconds, strict=True)]
    spread = 0.0
    if len(ratios) > 1:
        low, _, high = statistics.quantiles(ratios, n=4)
        spread = (high - low) / 2
    latency = {"batch": settings.batch, "seq_len": settings.seq_len} | place(device)
    return latency | {
        "dtype": "float32",
        "dense_ms": statistics.median(dense_seconds) * 1e3,
        "final_ms": statistics.median(final_seconds) * 1e3,
        "speedup": statistics.median(ratios),
        "spread": spread,
        "contended": contended,
    }
