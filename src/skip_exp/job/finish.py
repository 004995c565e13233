"""From what the phases measured to skill, ``result.json`` and the logger."""

from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch.loggers import Logger

from skip_exp import results
from skip_exp.config.names import STATES
from skip_exp.job.job import Job
from skip_exp.logger import picture
from skip_exp.logger.build import mirror
from skip_exp.models import lora
from skip_exp.models.cost import flops
from skip_exp.models.sites import Keep, keep_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.files import save_skill
from skip_exp.skill.record import SkillRecord


@dataclass(frozen=True)
class Measured:
    """What the phases leave behind.

    Attributes:
        whole: what size and speed are compared with: the dense model or, where that is on the
            first layers only, one on the whole backbone.
        keep: what stays, in indices of the dense model.
        table: the timing that decided it, or empty.
        epochs: of re-tuning, at most.
        ratio: asked for or found by a search; None where the goal was a speed-up.
        probes: of the search: ratio -> select score.
        scores: by state (dense, pruned, final).
        crossfit: by state, of the fits that made one.
        seconds: by phase.
        hits: by stage, whether it came from the cache.
    """

    dense: SoftPromptModel
    keep: Keep
    table: dict[str, Any]
    epochs: int
    final: SoftPromptModel
    whole: SoftPromptModel
    ratio: float | None
    probes: dict[str, float]
    scores: dict[str, Any]
    crossfit: dict[str, float | None]
    latency: dict[str, Any]
    seconds: dict[str, float]
    hits: dict[str, bool]


def finish(job: Job, measured: Measured, logger: Logger | None) -> results.Result:
    """Write skill, picture and result, then show them in W&B."""
    about = skill_about(job, measured.scores, measured.final)
    save_skill(job.output / "skill", measured.final, measured.keep, about)
    result = assemble(job, measured)
    picture.save(result["keep_sizes"], job.output / picture.FILE)
    results.write(job.output, result)
    mirror(logger, result, job.output, job.data.fingerprint, job.backbone.content_hash)
    return result


def assemble(job: Job, measured: Measured) -> results.Result:
    """The result of a finished job: what its configuration tells, and what was measured."""
    scores, length = measured.scores, job.cfg.benchmark.seq_len
    reached = params(measured.dense, measured.final)["block_pruned"]
    before, after = (flops(model, length) for model in (measured.whole, measured.final))
    configured = results.from_config(asdict(job.cfg))
    method = configured["method"] | {"epochs": measured.epochs}
    if measured.table:
        method["table"] = measured.table
    measurements: dict[str, Any] = {
        "job_id": job.job_id,
        "status": "done",
        "backbone_note": job.backbone.note or None,
        # Where a speed-up was asked for, the ratio that it took.
        "ratio": measured.ratio if measured.ratio is not None else round(reached, 3),
        "ratio_reached": reached,
        "precision": job.trainer.precision,
        "method": method,
        "data_source": job.data.source,
        "data_is_sample": job.data.is_sample,
        "train_rows": job.data.train_rows,
        "n_eval": len(job.data.validation),
        "majority": job.data.majority,
        "metric": {"name": job.metric, **_by_state(scores, "validation", job.metric)},
        "metrics": _metrics(job, scores),
        "select": _by_state(scores, "select", job.metric),
        "select_crossfit": measured.crossfit,
        "probes": measured.probes,
        "params": params(measured.whole, measured.final),
        "flops": {"before": before, "after": after, "ratio": before / after},
        "keep_sizes": keep_sizes(measured.dense.shapes(), measured.keep),
        "latency": measured.latency,
        "seconds": {phase: round(value, 3) for phase, value in measured.seconds.items()},
        "cache": {stage: "hit" if hit else "miss" for stage, hit in measured.hits.items()},
        "skill": "skill",
    }
    return results.new(**configured | measurements)


def params(before: SoftPromptModel, after: SoftPromptModel) -> dict[str, float]:
    """Parameters before and after: of the blocks, and of everything in use, prompt included."""
    blocks = [sum(shape.parameters for shape in model.shapes()) for model in (before, after)]
    everything = [_parameters(model) for model in (before, after)]
    return {
        "block_before": blocks[0],
        "block_after": blocks[1],
        "all_before": everything[0],
        "all_after": everything[1],
        "block_pruned": 1 - blocks[1] / blocks[0],
        "all_pruned": 1 - everything[1] / everything[0],
    }


def _parameters(model: SoftPromptModel) -> int:
    """As it is served: low-rank updates are merged."""
    served = model.copy()
    lora.fold(served.backbone)
    return sum(p.numel() for p in served.parameters())


def _by_state(scores: dict[str, Any], split: str, metric: str) -> Any:
    return {state: scores[state][split][metric] for state in STATES}


def _metrics(job: Job, scores: dict[str, Any]) -> dict[str, Any]:
    """Every metric on the validation split and, where the task has some, on its extra splits."""
    names, splits = job.data.spec.metrics, job.data.spec.extra
    metrics = {name: _by_state(scores, "validation", name) for name in names}
    beside = {state: scores[state].get("extra", {}) for state in STATES}
    extra = {split: {name: _by_state(beside, split, name) for name in names} for split in splits}
    return metrics | ({"extra": extra} if extra else {})


def skill_about(job: Job, scores: dict[str, Any], model: SoftPromptModel) -> SkillRecord:
    """What the skill file says of itself."""
    spec, b, prompt = job.data.spec, job.backbone, job.cfg.prompt
    record = {
        "task": spec.name,
        "text": spec.text,
        "labels": spec.labels,
        "words": spec.words,
        "backbone": {
            "name": b.name,
            "path": b.path,
            "family": b.family.name,
            "readout": b.readout,
            "pooling": job.cfg.backbone.pooling,
            "content_hash": b.content_hash,
            "layers": b.layers,
        },
        "prompt": {"kind": prompt.kind, "length": prompt.length, "decoder": prompt.decoder},
        "max_length": job.cfg.data.max_length,
        "scores": {
            "metric": job.metric,
            "validation": scores["final"]["validation"][job.metric],
            "data": job.data.source,
        },
        "train": _trained(job, model),
        "factors": _factors(model),
    }
    return SkillRecord.model_validate(record)


def _factors(model: SoftPromptModel) -> dict[str, int] | None:
    factors = lora.factors(model.backbone)
    if not factors:
        return None
    return {"rank": factors[0].shape[1], "bytes": 4 * sum(factor.numel() for factor in factors)}


def _trained(job: Job, model: SoftPromptModel) -> str:
    """Weights of the backbone that any phase trained are the skill's own, whatever came after."""
    if job.cfg.tune.train == "full":
        return "full"
    if lora.layers(model.backbone):
        return "lora"
    own = any(name.startswith("backbone.") for name in model.skill_parameters())
    return "bias" if own else job.cfg.retune.train
