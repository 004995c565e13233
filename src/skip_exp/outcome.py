"""From what the phases measured to the fields of ``result.json``."""

from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from skip_exp import results
from skip_exp.job import Job
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning.select import shapes
from skip_exp.skill import SkillAbout

STATES = ("dense", "pruned", "final")


def params(dense: SoftPromptModel, final: SoftPromptModel) -> dict[str, float]:
    """Parameters before and after: of the blocks, and of everything in use, prompt included."""
    blocks = [sum(shape.parameters for shape in shapes(m.blocks())) for m in (dense, final)]
    everything = [sum(p.numel() for p in m.parameters()) for m in (dense, final)]
    return {
        "block_before": blocks[0],
        "block_after": blocks[1],
        "all_before": everything[0],
        "all_after": everything[1],
        "block_pruned": 1 - blocks[1] / blocks[0],
        "all_pruned": 1 - everything[1] / everything[0],
    }


def keep_sizes(dense: SoftPromptModel, keep: dict[str, Tensor]) -> dict[str, list[int]]:
    """{site: [kept, of]}."""
    return {site: [kept.shape[-1], _full(dense, site)] for site, kept in keep.items()}


def _full(model: SoftPromptModel, site: str) -> int:
    """Neurons of a site before the cut."""
    block, _, kind = site.rpartition(".")
    sizes = {shape.name: shape for shape in shapes(model.blocks())}
    if kind == "ffn":
        return sizes[site].units
    return {"heads": sizes[block].units, "qk": sizes[block].qk, "vo": sizes[block].vo}[kind]


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
    cfg, main, target = job.cfg, job.metric, job.cfg.prune.target_speedup
    config: Any = OmegaConf.to_container(cfg, resolve=True)

    def of(split: str, metric: str) -> Any:
        return {state: scores[state][split][metric] for state in STATES}

    extra = {
        split: {m: {s: scores[s]["extra"][split][m] for s in STATES} for m in job.data.spec.metrics}
        for split in job.data.spec.extra
    }
    metrics: dict[str, Any] = {m: of("validation", m) for m in job.data.spec.metrics}
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
        method={
            "sites": list(cfg.prune.sites),
            "allocation": cfg.prune.allocation,
            "target_speedup": target,
            "max_drop": cfg.prune.max_drop,
            "steps": cfg.prune.steps,
            "reconstruct": cfg.prune.reconstruct,
            "epochs": job.retune_at(ratio).epochs if cfg.retune.enabled else 0,
            "distill": cfg.retune.distill if cfg.retune.enabled else 0.0,
            "train": cfg.retune.train if cfg.retune.enabled else "none",
            "init": cfg.retune.init,
        },
        data_source=job.data.source,
        data_is_sample=job.data.is_sample,
        n_eval=len(job.data.validation),
        majority=job.data.majority,
        metric={"name": main, **of("validation", main)},
        metrics=metrics | ({"extra": extra} if extra else {}),
        select=of("select", main),
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
