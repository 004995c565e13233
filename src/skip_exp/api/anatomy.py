"""``skip_exp.anatomy``: what the neurons of finished skills do, as tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.neurons.measure import PARTS, Options, measured
from skip_exp.neurons.subjects import Subject, opened, settings_of
from skip_exp.skill.skill import Skill
from skip_exp.utils import state

ROWS = 500


def anatomy(
    jobs: Skill | str | Path | Iterable[str | Path],
    *,
    ratio: float = 0.9,
    methods: Sequence[str] = ("magnitude",),
    parts: Sequence[str] = tuple(PARTS),
    rows: int = ROWS,
) -> dict[str, pd.DataFrame]:
    """Measure what the neurons of finished jobs do for their tasks. Nothing is trained.

    Example:
        >>> found = skip_exp.anatomy("outputs/2026-11-28")
        >>> found["causal"].pivot_table("harm", index="cut", columns="task")

    Scores of ``ablation`` and ``causal`` are balanced accuracy on the selection slice;
    ``calibration`` and ``abroad`` are of the validation split. All are fractions. The jobs' dense
    models are read from the stage cache. A folder has the jobs of one recipe: of a task, backbone
    and seed all jobs but those of other ratios are refused.

    Args:
        jobs: a skill of a job, a folder of jobs, or several folders.
        ratio: a task's skill neurons are what a cut by this fraction of the block parameters keeps.
        methods: attributions beside the jobs' own: choices of ``conf/attribution``, with changes
            after a colon, such as ``activation_gradient:options.tokens=max``.
        parts: names of the tables, some of ``where``, ``ablation``, ``overlap``, ``causal``,
            ``calibration`` and ``abroad``: see :mod:`skip_exp.neurons.measure`.
        rows: that each score is of, at most.

    Returns:
        The tables by name.

    Raises:
        SkipError: no finished job, an unknown name, a dense model that is not in the cache, or
            jobs that cut both heads and their dims, for ``overlap`` and ``causal``.
    """
    if isinstance(jobs, Skill):
        if not jobs.result:
            raise SkipError("anatomy: this skill has no result: give the folder of its job")
        jobs = Path(jobs.result["path"]).parent
    if unknown := [name for name in parts if name not in PARTS]:
        raise SkipError(f"parts={unknown[0]}: must be some of {', '.join(PARTS)}")
    for method in methods:
        settings_of(method)  # refuses before anything is measured
    if not 0 < ratio < 1:
        raise SkipError(f"ratio={ratio}: must be between 0 and 1")
    if rows < 1:
        raise SkipError(f"rows={rows}: must be at least 1")
    folders = [jobs] if isinstance(jobs, str | Path) else list(jobs)
    with state.kept():
        subjects = list(opened(folders, rows))
        if not {"overlap", "causal"}.isdisjoint(parts):
            for subject in subjects:
                _check_cut(subject, ratio)
        return measured(subjects, Options(ratio, methods), parts)


def _check_cut(subject: Subject, ratio: float) -> None:
    """Raise SkipError unless a cut by ``ratio`` leaves a set of neurons and its complement."""
    name = f"{subject.task}, {subject.backbone}"
    if ratio > subject.most:
        raise SkipError(f"ratio={ratio}: must be at most {subject.most:.2f} for {name}")
    sites = subject.job.cfg.prune.sites
    if "heads" in sites and {"qk", "vo"} & {*sites}:
        why = "overlap and causal need whole heads or their dims, not both: leave these parts out"
        raise SkipError(f"prune.sites={','.join(sites)} of {name}: {why}")
