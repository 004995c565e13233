"""``skip_exp.fit``: from rows to a small classifier, by the pipeline of the command line."""

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, Unpack

from skip_exp import results
from skip_exp.api.task import RowOptions, Task, build_task
from skip_exp.config import refusals
from skip_exp.config.compose import job_of, quote
from skip_exp.config.schema import Config
from skip_exp.config.together import check_given, values_of
from skip_exp.errors import INTERRUPTED, SkipError
from skip_exp.utils import console

log = logging.getLogger(__name__)

LOG_FILE = "skip_exp.log"  # in the job's folder, as Hydra names it
STRONG = "experiment=strong"  # the recipe, unless another one is given
GOAL_KEYS = ("prune.ratio", "prune.target_speedup", "prune.within")
_ONE = RLock()  # jobs of one process share the seeds, and the modules of a frozen backbone


def fit(
    data: Any,
    labels: Sequence[Any] | None = None,
    *,
    ratio: float | str | None = None,
    within: float | None = None,
    budget: float | None = None,
    backbone: str | None = None,
    output: str | Path = "outputs",
    overrides: Sequence[str] = (),
    **options: Unpack[RowOptions],
) -> Any:
    """Train a classifier on ``data``, prune what the task does not need, train again.

    Example:
        >>> model = skip_exp.fit("tickets.csv", text="comment", label="verdict", ratio=0.7)
        >>> model.predict(["late again"])[0]["label"]
        'bad'

    The job is that of ``python -m skip_exp``: same phases, same cache, same result file. A second
    call with the same rows and settings answers at once. The recipe is ``experiment=strong``,
    unless you choose another: all weights of the layers are trained, and there is no prompt.

    Args:
        data: path of a CSV, JSON or Parquet file, a data frame, a ``datasets.Dataset``, a
            list of rows as dictionaries, or a list of texts or pairs with ``labels``.
        labels: one per text, where ``data`` is a list of texts.
        ratio: fraction of the block parameters to remove; None: 0.5.
        within: instead of a ratio: find the fastest model that loses at most so many points to the
            uncut one on the selection slice, a standard error included. Several cuts are tried,
            each in every form.
        budget: minutes after which ``within`` tries no further cut; None: all of them.
        backbone: a choice of ``conf/backbone``; None: that of the experiment, else ``minilm``.
        output: folder of results, of the cache and of rows that are no file yet.
        overrides: further settings, as on the command line: ``["tune.epochs=4"]``.
        options: ``text``, ``label``, ``multilabel``, ``validation``, ``classes``, ``group``,
            ``name``, ``sep``, ``encoding``, ``drop_bad`` and ``deduplicate``: see
            :class:`skip_exp.api.task.RowOptions`.

    Returns:
        The :class:`Skill`, with its job's numbers in ``result``; or an :class:`OnnxSkill`, where
        ``within`` chose 8-bit weights.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    root = Path(output).expanduser()
    task = build_task(data, labels, root, **options)
    settings = [] if backbone is None else [f"backbone={backbone}"]
    return run(task, settings, ratio, overrides, root, within, budget)


def check_budget(budget: float | None, within: float | None) -> None:
    """Raise SkipError for a budget that is none, or that nothing keeps to."""
    if budget is not None and within is None:
        raise SkipError(f"budget={budget}: needs within=, which tries several ratios")
    if budget is not None and not budget > 0:
        raise SkipError(f"budget={budget}: must be minutes, more than 0")


def _check_multilabel(task: Task, within: float | None, given: Mapping[str, str]) -> None:
    """Refuse what does not fit rows of several labels. Raises SkipError."""
    is_multilabel = task.config.get("multilabel", False)
    if within is not None and is_multilabel:
        raise SkipError(f"within={within}: not for several labels per text; give ratio= instead")
    if given.get("task.multilabel", "").lower() == "true" and not is_multilabel:
        fix = "give --multilabel (in Python multilabel=True), which also finds the labels"
        raise SkipError(f"task.multilabel=true: {fix}")


def run(
    task: Task,
    settings: list[str],
    ratio: float | str | None,
    overrides: Sequence[str],
    root: Path,
    within: float | None = None,
    budget: float | None = None,
) -> Any:
    """Run a job, or those of ``within``, on ``task`` below ``root``; load what is left.

    Raises SkipError.
    """
    if isinstance(overrides, str):
        raise SkipError(f"overrides: {overrides}: must be a list, such as [{overrides!r}]")
    if ratio is not None:  # else the goal is left to the overrides
        settings = [*settings, f"prune.ratio={ratio}"]
    if within is not None:
        settings = [*settings, f"prune.within={within}"]
    settings = [*task.settings, *settings, *overrides]
    given = values_of(settings)
    _check_multilabel(task, within, given)
    own = {"logger": "none", "cache.dir": quote(str(root / ".cache"))}
    own_settings = [f"{key}={value}" for key, value in own.items() if key not in given]
    began = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    folder = root / f"{began}-{task.config['name']}"
    recipe = [] if "experiment" in given else [STRONG]
    cfg = job_of(task.config, [*own_settings, *recipe, *settings], str(folder))
    check_given(cfg, settings)
    check_budget(budget, cfg.prune.within)
    with _ONE:
        if console.PIPELINE not in sys.modules:
            with console.shown():
                log.info(console.LOADING)
        pipeline = console.import_slow(console.PIPELINE)  # not for what is refused
        with console.shown(folder / LOG_FILE), console.keep_state():
            console.quiet_lightning()
            if recipe:
                log.info("%s: all weights of the layers are trained, without a prompt", STRONG)
            if cfg.task.metrics[0] == "f1_macro" and "task.metrics" not in given:
                log.info("a class has few of the train rows: choices are made on f1_macro")
            if cfg.prune.within is not None:
                from skip_exp.within.run import find  # scikit-learn: not for a single job

                return find(cfg, task.tables, budget, lambda job: _run(pipeline, job, task))
            return _open(cfg, task, _run(pipeline, cfg, task))


def _open(cfg: Config, task: Task, result: Any) -> Any:
    """The skill of a job that is done; where models are timed, weighed against cheap baselines."""
    from skip_exp.skill.skill import Skill  # torch is loaded by now

    skill = Skill.load(Path(cfg.output_dir) / str(result["skill"]))
    if cfg.benchmark.enabled and not cfg.task.multilabel:
        from skip_exp.within.worth import weigh  # scikit-learn

        weigh(cfg, task.tables, skill, result)
    return skill


def _run(pipeline: ModuleType, cfg: Config, task: Task) -> Any:
    error = None
    try:
        return pipeline.run(cfg, task.tables)
    except (KeyboardInterrupt, SystemExit):  # as Lightning ends a worker
        error = INTERRUPTED
        raise
    except Exception as problem:
        error = refusals.describe_failure(problem)
        log.debug(error, exc_info=problem)  # DEBUG goes to the job's log file only
        if isinstance(problem, SkipError):
            problem.in_job = True
        with suppress(SkipError):  # a folder that cannot be written
            results.write_failed(cfg.output_dir, asdict(cfg), error)
        raise
    finally:
        if runs := sys.modules.get("skip_exp.logger.runs"):  # otherwise no run is open
            runs.close(error)
