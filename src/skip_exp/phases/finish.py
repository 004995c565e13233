"""From what the phases measured to the fields of ``result.json``."""

from typing import Any

from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.skill.skill import SkillAbout

STATES = ("dense", "pruned", "final")


def params(dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, float]:
    """Parameters before and after: of the blocks, and of everything in use, prompt included."""
    blocks = [sum(shape.parameters for shape in m.shapes()) for m in (dense, final)]
    everything = [sum(p.numel() for p in m.parameters()) for m in (dense, final)]
    return {
        "block_before": blocks[0],
        "block_after": blocks[1],
        "all_before": everything[0],
        "all_after": everything[1],
        "block_pruned": 1 - blocks[1] / blocks[0],
        "all_pruned": 1 - everything[1] / everything[0],
    }


def assemble(
    job: Job,
    *,
    ratio: float,
    probes: dict[str, float],
    scores: dict[str, dict[str, Any]],
    params: Any,
    flops: list[int],
    keep_sizes: dict[str, list[int]],
    latency: Any,
    seconds: dict[str, float],
    cache: dict[str, str],
) -> results.Result:
    """The result of a finished job."""
    cfg, target = job.cfg, job.cfg.prune.target_speedup
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return results.new(
        job_id=job.job_id,
        status="done",
        sweep=cfg.logger.group,
        task=cfg.task.name,
        backbone=cfg.backbone.name,
        backbone_note=job.backbone.note or None,
        family=cfg.backbone.family,
        seed=cfg.seed,
        prompt={key: cfg.prompt[key] for key in ("kind", "length", "init")},
        readout=cfg.backbone.readout,
        attribution=results.attribution_name(cfg.attribution._target_),
        # Where a speed-up was asked for, the ratio that it took.
        ratio=ratio if target is None else round(params["block_pruned"], 3),
        ratio_reached=params["block_pruned"],
        method=_method(job, ratio),
        data_source=job.data.source,
        data_is_sample=job.data.is_sample,
        n_eval=len(job.data.validation),
        majority=job.data.majority,
        metric={"name": job.metric, **_by_state(scores, "validation", job.metric)},
        metrics=_metrics(job, scores),
        select=_by_state(scores, "select", job.metric),
        probes=probes,
        params=params,
        flops={"before": flops[0], "after": flops[1], "ratio": flops[0] / flops[1]},
        keep_sizes=keep_sizes,
        latency=latency,
        seconds={phase: round(value, 3) for phase, value in seconds.items()},
        cache=cache,
        skill="skill",
        config=config,
    )


def _method(job: Job, ratio: float) -> results.Method:
    """How it was cut and re-tuned."""
    prune, retune = job.cfg.prune, job.cfg.retune
    return {
        "sites": list(prune.sites),
        "allocation": prune.allocation,
        "target_speedup": prune.target_speedup,
        "max_drop": prune.max_drop,
        "steps": prune.steps,
        "reconstruct": prune.reconstruct,
        "epochs": job.retune_at(ratio).epochs if retune.enabled else 0,
        "distill": retune.distill if retune.enabled else 0.0,
        "train": retune.train if retune.enabled else "none",
        "init": retune.init,
    }


def _by_state(scores: dict[str, dict[str, Any]], split: str, metric: str) -> Any:
    return {state: scores[state][split][metric] for state in STATES}


def _metrics(job: Job, scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every metric on the validation split and, where the task has some, on its extra splits."""
    names, splits = job.data.spec.metrics, job.data.spec.extra
    found: dict[str, Any] = {m: _by_state(scores, "validation", m) for m in names}
    beside = {state: scores[state].get("extra", {}) for state in STATES}
    extra = {split: {m: _by_state(beside, split, m) for m in names} for split in splits}
    return found | ({"extra": extra} if extra else {})


def skill_about(job: Job, scores: dict[str, dict[str, Any]]) -> SkillAbout:
    """What the skill file says of itself."""
    spec, b, prompt = job.data.spec, job.backbone, job.cfg.prompt
    return SkillAbout(
        task=spec.name,
        text=list(spec.text),
        labels=list(spec.labels),
        words=list(spec.words),
        backbone={
            "name": b.name,
            "path": b.path,
            "family": b.family.name,
            "readout": b.readout,
            "pooling": job.cfg.backbone.pooling,
            "content_hash": b.content_hash,
        },
        prompt={"kind": prompt.kind, "length": prompt.length, "decoder": prompt.decoder},
        # Weights that were trained are the skill's own, whatever came after.
        train="full" if job.cfg.tune.train == "full" else job.cfg.retune.train,
        max_length=job.cfg.data.max_length,
        scores={
            "metric": job.metric,
            "validation": scores["final"]["validation"][job.metric],
            "data": job.data.source,
        },
    )
