"""The two ends of a job's result: what is known before its phases, and what they left behind.

The cache has the latter alone. It names no place, because its key does not count places.
"""

import gzip
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load

from skip_exp import results
from skip_exp.backbones.load import load_backbone
from skip_exp.cache.store import Entry, pack_files, unpack_files
from skip_exp.config.checks import STATES
from skip_exp.config.groups import TRAIN
from skip_exp.data.rows import get_labels
from skip_exp.logger.build import save_picture
from skip_exp.models.family import Keep
from skip_exp.models.readouts import ClassifierReadout
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.models.surgery import block_parameters, flops, keep_sizes, shapes_of
from skip_exp.models.trained import fold_updates, list_factors
from skip_exp.outcomes.registry import fit_temperature
from skip_exp.phases.job import Job
from skip_exp.results import (
    PICTURE,
    PREDICTIONS,
    Calibration,
    Flops,
    MainScores,
    Params,
    Result,
    Scores,
)
from skip_exp.skill.files import save_skill, whole_model, write_skill
from skip_exp.skill.ranges import measure_ranges
from skip_exp.skill.record import (
    TENSORS,
    BackboneRecord,
    PromptRecord,
    ScoreRecord,
    SkillRecord,
    read_bytes,
)
from skip_exp.utils import files

log = logging.getLogger(__name__)


def begin_result(job: Job) -> Result:
    """What a job's result has before its first phase: settings, rows, and where they lie."""
    data = job.data
    return results.from_config(
        asdict(job.cfg),
        job_id=job.key,
        backbone_note=job.backbone.note or None,
        precision=job.trainer.precision,
        start=job.start.name if job.start else None,
        data_source=data.source,
        data_is_sample=data.is_sample,
        data_hash=data.read,
        n_train=len(data.train),
        duplicates=data.duplicates,
        dropped=data.dropped,
        n_eval=len(data.validation),
        majority=data.majority,
    )


def add_scores(job: Job, result: Result, scored: Mapping[str, Entry]) -> None:
    """Fill in the scores of the three models, as `measure.test` returns them, and the calibration.

    Temperature and threshold are of the selection slice, the former's effect that on the
    validation split.
    """

    def collect(split: str, metric: str) -> dict[str, float]:
        return {state: scored[state].values["scores"][split][metric] for state in STATES}

    spec = job.data.spec
    result.metric = MainScores(name=job.metric, **collect("validation", job.metric))
    result.select = Scores(**collect("select", job.metric))
    result.metrics = {metric: collect("validation", metric) for metric in spec.metrics}
    for split in spec.extra:
        extra = result.metrics.setdefault("extra", {})
        extra[split] = {metric: collect(split, metric) for metric in spec.metrics}
    # A temperature that fits the slice is judged by rows that it has not seen.
    outcome = spec.outcome
    logits = scored["final"].tensors
    select_labels = torch.tensor(get_labels(job.data.select))
    temperature = fit_temperature(outcome, logits["select"], select_labels)
    labels = np.array(get_labels(job.data.validation))
    answers = logits["validation"].numpy()
    raw = outcome.calibration_error(answers, labels)
    error = outcome.calibration_error(answers / temperature, labels)
    result.calibration = Calibration(ece=error, ece_raw=raw, temperature=temperature)
    # The bound is one of logits, before the temperature; a skill stores a probability after it.
    bound = outcome.find_bound(logits["select"].numpy(), select_labels.numpy())
    if bound is not None:
        result.calibration.threshold = round(1 / (1 + math.exp(-bound / temperature)), 6)
    log.info(
        "probabilities: calibration error %.1f %%, before the temperature of %.2f: %.1f %%",
        100 * error, temperature, 100 * raw,
    )  # fmt: skip


def finish(
    job: Job,
    result: Result,
    *,
    dense: SoftPromptModel,
    final: SoftPromptModel,
    keep: Keep,
    scored: Mapping[str, Entry],
    is_lasting: bool,
) -> Entry:
    """Add the sizes, write skill, picture and predictions; the entry has them and the result.

    The result is without a timing, and without what :func:`begin_result` knows.

    Args:
        keep: what stays, in indices of the dense model.
        scored: as `measure.test` returns it.
        is_lasting: False where a contended timing had a part in it.
    """
    results.check_folder(job.output, job.key)  # before its files are replaced
    # Ranges come from train rows alone: 8 bits must not see what they are scored on.
    record = skill_record(job, final, result)
    ranges = measure_ranges(final.eval(), job.data.train, job.data.tokenizer.pad_token_id)
    save_skill(job.output / "skill", final, keep, record, ranges)
    result.skill = "skill"
    result.skill_bytes = sum(file.stat().st_size for file in (job.output / "skill").iterdir())
    whole = whole_model(record)  # the reference for size and speed
    result.params = count_params(whole, final)
    before = flops(whole, job.cfg.data.max_length)
    after = flops(final, job.cfg.data.max_length)
    result.flops = Flops(before=before, after=after, ratio=before / after)
    result.keep_sizes = keep_sizes(shapes_of(dense), keep)
    result.finished = results.now()
    save_picture(result.keep_sizes, job.output / PICTURE)
    _write_predictions(job.output / PREDICTIONS, job, scored, record)
    return Entry(
        pack_files(job.output, [f"skill/{TENSORS}", PICTURE, PREDICTIONS]),
        {
            "result": result.model_dump(by_alias=True, exclude_defaults=True),
            "record": record.to_share().stored(),
        },
        keep=is_lasting,
    )


def unpack(job: Job, done: Entry) -> None:
    """Write the files of a job that was done before; its skill names this job's places.

    Raises:
        SkipError: one cannot be written.
    """
    unpack_files(done, job.output)
    record = SkillRecord.model_validate(done.values["record"])
    located = record.changed(
        backbone=record.backbone.model_copy(update={"path": job.backbone.path}),
        scores=record.scores.model_copy(update={"data": job.data.source}),
        start=job.start.origin if job.start else None,
    )
    folder = job.output / "skill"
    write_skill(folder, load(read_bytes(folder / TENSORS)), located.stored())


def _write_predictions(
    path: Path, job: Job, scored: Mapping[str, Entry], record: SkillRecord
) -> None:
    labels = get_labels(job.data.validation)
    outcome = record.outcome
    tables = {}
    for state in ("dense", "final"):
        logits = scored[state].tensors["validation"] / record.temperature
        probabilities = outcome.probabilities(logits.numpy())
        tables[state] = outcome.tabulate(labels, probabilities, record.threshold)
    answers = tables["final"] | {"dense": tables["dense"]["predicted"]}
    content = pd.DataFrame(answers).to_csv(index=False, float_format="%.4f")
    files.save(path, gzip.compress(content.encode(), mtime=0))


def count_params(before: SoftPromptModel, after: SoftPromptModel) -> Params:
    """Parameters before and after: of the blocks, and of everything in use, prompt included."""
    block_before = block_parameters(before)
    block_after = block_parameters(after)
    all_before = _count_served(before)
    all_after = _count_served(after)
    return Params(
        block_before=block_before,
        block_after=block_after,
        block_pruned=1 - block_after / block_before,
        all_before=all_before,
        all_after=all_after,
        all_pruned=1 - all_after / all_before,
    )


def _count_served(model: SoftPromptModel) -> int:
    """As it is served: low-rank updates are merged, and a classifier's head counts once.

    After a fit on a GPU, a model that shares its weights with the fitted one may be on two devices.
    """
    served = model.on("cpu").copy()
    fold_updates(served.backbone)
    repeated: set[int] = set()
    if isinstance(served.readout, ClassifierReadout):  # it has a copy of the backbone's
        for part in (*served.family.head(served.backbone), served.family.between(served.backbone)):
            repeated.update(map(id, part.parameters()))
    return sum(p.numel() for p in served.parameters() if id(p) not in repeated)


def skill_record(job: Job, final: SoftPromptModel, result: Result) -> SkillRecord:
    """The record that is stored in the skill file."""
    spec = job.data.spec
    prompt = job.cfg.prompt
    backbone = job.backbone
    layers = job.cfg.prune.layers
    if layers is not None:  # it needs no more than these
        backbone = load_backbone(
            backbone.name, backbone.path, backbone.family.name, backbone.readout, layers
        )
    # The most that any phase trained: the skill stores it, whatever came after.
    train = job.cfg.tune.train
    if job.cfg.retune.enabled:
        train = max(train, job.cfg.retune.train, key=TRAIN.index)
    factors = list_factors(final.backbone)
    return SkillRecord(
        task=spec.name,
        kind=spec.kind,
        text=spec.text,
        label=spec.label,
        labels=spec.labels,
        words=spec.words,
        backbone=BackboneRecord(
            name=backbone.name,
            path=backbone.path,
            family=backbone.family.name,
            readout=backbone.readout,
            pooling=job.cfg.backbone.pooling,  # type: ignore[arg-type]  # checked by the schema
            content_hash=backbone.content_hash,
            layers=backbone.layers,
        ),
        prompt=PromptRecord(
            kind=prompt.kind,  # type: ignore[arg-type]  # the same
            length=prompt.length,
        ),
        max_length=job.cfg.data.max_length,
        scores=ScoreRecord(
            metric=job.metric,
            validation=result.metric.final,
            data=job.data.source,
        ),
        train=train,  # type: ignore[arg-type]  # the same
        rank=factors[0].shape[1] if factors else None,
        start=job.start.origin if job.start else None,
        temperature=result.calibration.temperature or 1.0,
        threshold=result.calibration.threshold,
    )
