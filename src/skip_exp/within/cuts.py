"""Which cuts a search tries, and the job of each."""

import logging
from dataclasses import replace
from pathlib import Path

from skip_exp.config.groups import PruneConfig, name_goal
from skip_exp.config.schema import Config
from skip_exp.models.surgery import shape_of
from skip_exp.phases.job import Job
from skip_exp.pruning import allocate
from skip_exp.within.choose import Cut

log = logging.getLogger(__name__)

RATIOS = (0.9, 0.7, 0.52)  # in the order in which they are tried, the fastest first
DEEPEST = 0.9  # before, it is tried in half of the layers, which is 1.3 times as fast
JOBS = "jobs"  # folder of the jobs, by cut


def name_cut(cut: Cut) -> str:
    """``0.9-3layers``: of folders."""
    return name_goal(cut._asdict())


def of_cut(cfg: Config, cut: Cut) -> Config:
    """The configuration of a job that cuts so much; uncut, nothing is tuned again."""
    return replace(
        cfg,
        # One key for all, whatever is fastest.
        prune=replace(cfg.prune, ratio=cut.ratio, layers=cut.layers, within=None, fastest="one"),
        retune=replace(cfg.retune, enabled=cfg.retune.enabled and cut.ratio > 0),
        benchmark=replace(cfg.benchmark, enabled=False),
        output_dir=str(Path(cfg.output_dir) / JOBS / name_cut(cut)),
    )


def list_cuts(uncut: Job, prune: PruneConfig) -> list[Cut]:
    """The cuts that sites and layers can reach; the log says what is left out."""
    shapes = [shape_of(block) for block in uncut.backbone.family.blocks(uncut.backbone.model)]
    allocate.check(  # of the cuts, before the uncut model is tuned
        shapes, ratio=None, sites=prune.sites, allocation=prune.allocation, layers=prune.layers
    )
    cuts = []
    depth = 1 + max(shape.name.layer for shape in shapes)
    if prune.layers is None and depth > 1:
        cuts.append(Cut(DEEPEST, depth // 2))
    for ratio in RATIOS:
        cuts.append(Cut(ratio, prune.layers))
    reached = []
    for cut in cuts:
        low, high = allocate.bounds(shapes, prune.sites, cut.layers)
        if low <= cut.ratio <= high:
            reached.append(cut)
        else:
            log.info(
                "left out: %s: prune.sites and prune.layers can reach %.3g to %.3g", cut, low, high
            )
    return reached
