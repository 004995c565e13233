"""From what the phases measured to skill, ``result.json`` and the logger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from skip_exp import results
from skip_exp.cache.store import Entry, pack_files
from skip_exp.config.names import STATES
from skip_exp.logger import picture
from skip_exp.models import lora
from skip_exp.models.cost import flops
from skip_exp.models.readouts import ClassifierReadout
from skip_exp.models.sites import Keep, keep_sizes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.job import Job
from skip_exp.skill.files import save_skill
from skip_exp.skill.record import (
    RECORD,
    TENSORS,
    BackboneRecord,
    PromptRecord,
    ScoreRecord,
    SkillRecord,
)


@dataclass(frozen=True)
class Measured:
    """What the phases leave behind.

    Attributes:
        final: the re-tuned model.
        whole: the reference for size and speed: the dense model or, where that has the first layers
            only, one on the whole backbone.
        keep: what stays, in indices of the dense model.
        method: fields of the result's ``method`` that the configuration does not determine.
        ratio: given or found by a search.
        probes: of the search: ratio -> select score, or speed-up.
        scores: by state (dense, pruned, final).
        hits: by stage, whether it came from the cache.
    """

    dense: SoftPromptModel
    final: SoftPromptModel
    whole: SoftPromptModel
    keep: Keep
    method: dict[str, Any]
    ratio: float
    probes: dict[str, float]
    scores: dict[str, Any]
    hits: dict[str, bool]


def finish(job: Job, measured: Measured) -> Entry:
    """Write skill and picture; the entry of the job has them, and the result without a timing."""
    results.check_folder(job.output, job.key)  # before its files are replaced
    record = skill_record(job, measured)
    save_skill(job.output / "skill", measured.final, measured.keep, record)
    result = assemble(job, measured)
    picture.save(result["keep_sizes"], job.output / picture.FILE)
    names = [f"skill/{TENSORS}", f"skill/{RECORD}", picture.FILE]
    return Entry(pack_files(job.output, names), {"result": result})


def assemble(job: Job, measured: Measured) -> results.Result:
    """The result of a finished job: what its configuration determines, and what was measured."""
    scores, length, data = measured.scores, job.cfg.data.max_length, job.data
    before, after = (flops(model, length) for model in (measured.whole, measured.final))
    reached = 1 - measured.final.block_parameters() / measured.dense.block_parameters()
    configured = results.from_config(asdict(job.cfg))
    measurements: dict[str, Any] = {
        "job_id": job.key,
        "backbone_note": job.backbone.note or None,
        "ratio": measured.ratio,
        "ratio_reached": reached,
        "precision": job.trainer.precision,
        "start": job.start.name if job.start else None,
        "method": configured["method"] | measured.method,
        "data_source": data.source,
        "data_is_sample": data.is_sample,
        "data_hash": data.read,
        "train_rows": data.train_rows,
        "duplicates": data.duplicates,
        "dropped": data.dropped,
        "n_eval": len(data.validation),
        "majority": data.majority,
        "metric": {"name": job.metric, **_by_state(scores, "validation", job.metric)},
        "metrics": _metrics(job, scores),
        "select": _by_state(scores, "select", job.metric),
        "probes": measured.probes,
        "params": params(measured.whole, measured.final),
        "flops": {"before": before, "after": after, "ratio": before / after},
        "keep_sizes": keep_sizes(measured.dense.shapes(), measured.keep),
        "cache": {stage: "hit" if hit else "miss" for stage, hit in measured.hits.items()},
        "skill": "skill",
    }
    return results.new(**configured | measurements)


def params(before: SoftPromptModel, after: SoftPromptModel) -> dict[str, float]:
    """Parameters before and after: of the blocks, and of everything in use, prompt included."""
    fields: dict[str, float] = {}
    for which, count in (("block", SoftPromptModel.block_parameters), ("all", _parameters)):
        more, less = count(before), count(after)
        fields |= {f"{which}_before": more, f"{which}_after": less}
        fields[f"{which}_pruned"] = 1 - less / more
    return fields


def _parameters(model: SoftPromptModel) -> int:
    """As it is served: low-rank updates are merged, and a classifier's head counts once.

    After a fit on a GPU, a model that shares its weights with the fitted one may be on two devices.
    """
    served = model.on("cpu").copy()
    lora.fold(served.backbone)
    head: Sequence[nn.Module] = ()
    if isinstance(served.readout, ClassifierReadout):  # it has a copy of the backbone's
        head = *served.family.head(served.backbone), served.family.between(served.backbone)
    twice = {id(p) for part in head for p in part.parameters()}
    return sum(p.numel() for p in served.parameters() if id(p) not in twice)


def _by_state(scores: dict[str, Any], split: str, metric: str) -> Any:
    return {state: scores[state][split][metric] for state in STATES}


def _metrics(job: Job, scores: dict[str, Any]) -> dict[str, Any]:
    """Every metric on the validation split and, where the task has some, on its extra splits."""
    names, splits = job.data.spec.metrics, job.data.spec.extra
    metrics = {name: _by_state(scores, "validation", name) for name in names}
    beside = {state: scores[state].get("extra", {}) for state in STATES}
    extra = {split: {name: _by_state(beside, split, name) for name in names} for split in splits}
    return metrics | ({"extra": extra} if extra else {})


def skill_record(job: Job, measured: Measured) -> SkillRecord:
    """The record that is stored in the skill file."""
    spec, b, prompt = job.data.spec, job.backbone, job.cfg.prompt
    factors = lora.factors(measured.final.backbone)
    return SkillRecord(
        task=spec.name,
        text=spec.text,
        label=spec.label,
        labels=spec.labels,
        words=spec.words,
        backbone=BackboneRecord(
            name=b.name,
            path=b.path,
            family=b.family.name,
            readout=b.readout,
            pooling=job.cfg.backbone.pooling,  # type: ignore[arg-type]  # checked by the schema
            content_hash=b.content_hash,
            layers=b.layers,
        ),
        prompt=PromptRecord(kind=prompt.kind, length=prompt.length, decoder=prompt.decoder),
        max_length=job.cfg.data.max_length,
        scores=ScoreRecord(
            metric=job.metric,
            validation=measured.scores["final"]["validation"][job.metric],
            data=job.data.source,
        ),
        train=_trained(job, measured.final),
        rank=factors[0].shape[1] if factors else None,
        start=job.start.origin if job.start else None,
    )


def _trained(job: Job, model: SoftPromptModel) -> Any:
    """What any phase trained of the backbone: the skill stores it, whatever came after."""
    tune, retune = job.cfg.tune, job.cfg.retune
    if "full" in (tune.train, retune.train if retune.enabled else ""):
        return "full"
    if lora.layers(model.backbone):
        return "lora"
    own = any(name.startswith("backbone.") for name in model.skill_parameters())
    return "bias" if own else (retune if retune.enabled else tune).train
