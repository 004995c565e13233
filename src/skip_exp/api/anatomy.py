"""``skip_exp.anatomy``: what the neurons of finished skills do, as tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from skip_exp.errors import SkipError
from skip_exp.neurons.measure import PARTS, Options, measured
from skip_exp.neurons.subjects import opened, settings_of
from skip_exp.skill.load import Skill

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

    Scores are fractions on the selection slice; ``calibration`` and ``abroad`` are of the
    validation split. The jobs' dense models are read from the stage cache. A folder has the jobs of
    one recipe: of a task, backbone and seed all jobs but those of other ratios are refused.

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
        SkipError: no finished job, an unknown name, or a dense model that is not in the cache.
    """
    if isinstance(jobs, Skill):
        if jobs.folder is None:
            raise SkipError("anatomy: this skill has no folder: give the folder of its job")
        jobs = jobs.folder.parent
    if unknown := [name for name in parts if name not in PARTS]:
        raise SkipError(f"parts={unknown[0]}: must be some of {', '.join(PARTS)}")
    for method in methods:
        settings_of(method)  # refuses before anything is measured
    if not 0 < ratio < 1:
        raise SkipError(f"ratio={ratio}: must be between 0 and 1")
    if rows < 1:
        raise SkipError(f"rows={rows}: must be at least 1")
    folders = [jobs] if isinstance(jobs, str | Path) else list(jobs)
    subjects = list(opened(folders, rows))
    for subject in subjects:
        if ratio > subject.most and not {"overlap", "causal"}.isdisjoint(parts):
            name = f"{subject.task}, {subject.backbone}"
            raise SkipError(f"ratio={ratio}: must be at most {subject.most:.2f} for {name}")
    return measured(subjects, Options(ratio, methods), parts)
