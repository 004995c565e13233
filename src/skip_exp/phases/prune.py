"""From relevance to the subnetwork of one job: what is kept, and what makes up for the rest."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from skip_exp.cache.store import Entry
from skip_exp.job import Job
from skip_exp.machine.timing import alone
from skip_exp.models.cost import random_batch
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.pruning import allocate, latency, reconstruct, steps
from skip_exp.pruning import goal as budget
from skip_exp.pruning.latency import Table, Timing
from skip_exp.pruning.surgery import cut

ATTEMPTS = 3  # at a quiet moment for the latency table


def prune(
    job: Job,
    ratio: float,
    between: Callable[[SoftPromptModel, int], None],
    dense: SoftPromptModel,
    relevance: dict[str, Tensor],
) -> tuple[SoftPromptModel, dict[str, Tensor], reconstruct.Changes]:
    """The smaller model, what it keeps and its changes, both in indices of ``dense``.

    In ``prune.steps`` steps: after each but the last, ``between`` gets the model cut so far and the
    number of the step, and what is left is attributed anew. Changes make up for all that is gone.
    """
    model, keep, device = dense, dict[str, Tensor](), next(dense.parameters()).device
    count, sizes = job.cfg.prune.steps, dense.shapes()
    for step in range(1, count):
        settings = budget.settings(job.cfg.prune, ratio * step / count)
        kept = allocate.allocate(relevance, sizes, **settings, earlier=keep, last=False)
        model, keep = cut(model, steps.relative(kept, keep)), kept
        between(model, step)
        model.to(device).eval()  # a fit leaves it elsewhere
        relevance = steps.lift(job.score(model, calibration(job, model)), keep, relevance)
    kept = choose(job, ratio, dense, relevance, keep)
    found = changes(job, dense, kept)
    smaller = cut(model, steps.relative(kept, keep))
    reconstruct.apply(smaller, found)
    return smaller, kept, found


def choose(
    job: Job,
    ratio: float,
    dense: SoftPromptModel,
    relevance: dict[str, Tensor],
    earlier: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The neurons to keep: for ``ratio`` or, where one is asked for, for the speed-up.

    Raises:
        ConfigError: a speed-up out of reach.
    """
    settings = budget.settings(job.cfg.prune, ratio)
    sizes = dense.shapes()
    target = job.cfg.prune.target_speedup
    if target is None:
        return allocate.allocate(relevance, sizes, **settings, earlier=earlier)
    table = _table(job, dense)
    if settings["allocation"] == "latency":
        own = {key: settings[key] for key in ("sites", "round_to")}
        return latency.choose(relevance, sizes, table, target_speedup=target, **own)

    def pick(ratio: float) -> dict[str, Tensor]:
        return allocate.allocate(relevance, sizes, **settings | {"ratio": ratio})

    return latency.search(table, target, allocate.most(sizes, settings["sites"]), pick)


def changes(job: Job, dense: SoftPromptModel, keep: dict[str, Tensor]) -> reconstruct.Changes:
    """What ``prune.reconstruct`` adds to the cut model, from the rows that attribution reads."""
    prune = job.cfg.prune
    if prune.reconstruct == "none":  # no batches to draw
        return {}
    how = {"reconstruct": prune.reconstruct, "rank": prune.rank}
    return reconstruct.changes(dense, keep, calibration(job, dense), **how)


def calibration(job: Job, model: SoftPromptModel) -> list[dict[str, Tensor]]:
    """Batches of train rows on the model's device: ``attribution.samples`` of them."""
    device, settings = next(model.parameters()).device, job.cfg.attribution
    drawn = job.batches(job.tune, "attribute").attribution_batches(
        settings.samples, settings.batch, job.seed("attribute")
    )
    return [{name: t.to(device) for name, t in batch.items()} for batch in drawn]


def _table(job: Job, dense: SoftPromptModel) -> Table:
    """Measured once per machine and shape, so that a job's keep can be had again."""
    size, device = job.benchmark, next(dense.parameters()).device
    key = {
        "backbone": job.tune_key["backbone"],
        "prompt": job.tune_key["prompt"],
        "size": [size.batch, size.seq_len],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }
    label = {"backbone": job.cfg.backbone.name, "prompt": job.cfg.prompt.kind}
    entry = job.cache.get("latency", key, lambda: _measure(job, dense), label)
    blocks = {name: Timing(*timing) for name, timing in entry.values["blocks"].items()}
    return Table(entry.values["total"], blocks)


def _measure(job: Job, dense: SoftPromptModel) -> Entry:
    inputs = random_batch(dense, job.benchmark.batch, job.benchmark.seq_len)
    for _ in range(ATTEMPTS):
        table, contended = alone(partial(latency.measure, dense.eval(), inputs))
        if not contended:
            break
    blocks = {name: [t.widths, t.seconds] for name, t in table.blocks.items()}
    return Entry({}, {"total": table.total, "blocks": blocks})
