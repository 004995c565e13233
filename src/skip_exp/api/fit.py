"""``skip_exp.fit``: from rows to a small classifier, by the pipeline of the command line."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

from omegaconf import DictConfig

from skip_exp import results
from skip_exp.api.task import describe_task, read_given
from skip_exp.config.compose import compose_config, job_of, quote
from skip_exp.config.schema import Config
from skip_exp.config.together import check_given, values_of
from skip_exp.errors import SkipError
from skip_exp.utils import console

log = logging.getLogger(__name__)

LOG_FILE = "skip_exp.log"  # in the job's folder, as Hydra names it
RECIPE = "strong"  # the experiment, unless another one is given
_ONE = RLock()  # jobs of one process share the seeds, and the modules of a frozen backbone


def fit(
    data: Any,
    *,
    text: str | Sequence[str] = "text",
    label: str | Sequence[str] = "label",
    validation: Any = None,
    ratio: float | str | None = None,
    within: float | None = None,
    backbone: str | None = None,
    output: str | Path = "outputs",
    overrides: Sequence[str] = (),
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
        data: path of a CSV, JSON or Parquet file, a data frame, a ``datasets.Dataset``, or a
            list of rows as dictionaries.
        text: the column of the texts; two for a task on pairs.
        label: the column of the labels; several columns of 0 and 1 for rows of several labels.
        validation: rows that are scored, of any kind that ``data`` may be. None: a fifth of
            ``data`` is set apart, stratified.
        ratio: fraction of the block parameters to remove; None: 0.5. At 0 nothing is tuned again.
        within: instead of a ratio: find the fastest model that loses at most so many points to the
            uncut one, by the 90 % limit on the selection slice. Several cuts are tried, each in
            every form.
        backbone: a choice of ``conf/backbone``; None: that of the experiment, else ``minilm``.
        output: folder of results, of the cache and of rows that are no file yet.
        overrides: further settings, as on the command line: ``["tune.epochs=4"]``. Those of
            ``task`` and ``data`` say what the rows do not: ``task.labels=[bad,good]``,
            ``task.kind=many_labels``, ``data.sep=;``.

    Returns:
        The :class:`Skill`, with its job's numbers in ``result``; or an :class:`OnnxSkill`, where
        ``within`` chose 8-bit weights.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    root = Path(output).expanduser()
    defaults = [] if backbone is None else [f"backbone={backbone}"]
    settings = join_settings(defaults, ratio, within, overrides)
    cfg = compose_job(settings, root)
    rows = read_given(data, text, label, validation, cfg)
    return run(cfg, describe_task(rows, cfg, root), settings, root)


def join_settings(
    defaults: Sequence[str],
    ratio: float | str | None,
    within: float | None,
    overrides: Sequence[str],
) -> list[str]:
    """The arguments of a call as overrides, then those of the user. Raises SkipError."""
    if isinstance(overrides, str):
        raise SkipError(f"overrides: {overrides}: must be a list, such as [{overrides!r}]")
    settings = list(defaults)
    if ratio is not None:
        settings.append(f"prune.ratio={ratio}")
    if within is not None:
        settings.append(f"prune.within={within}")
    for override in overrides:
        if override.startswith(("hydra.", "output_dir=")):
            raise SkipError(f"overrides: {override}: is for the command line; give output=")
        settings.append(override)
    return settings


def compose_job(settings: Sequence[str], root: Path) -> DictConfig:
    """The configuration of a job below ``root`` whose task is not known yet. Raises SkipError."""
    defaults = {"logger": "none", "cache.dir": quote(str(root / ".cache")), "experiment": RECIPE}
    # Hydra refuses a group that is given twice.
    chosen = values_of(settings)
    overrides = [f"{key}={value}" for key, value in defaults.items() if key not in chosen]
    return compose_config("config", overrides + list(settings))


def run(cfg: DictConfig, task: Mapping[str, Any], settings: Sequence[str], root: Path) -> Any:
    """Run a job, or those of ``prune.within``, on ``task`` below ``root``; load what is left.

    Args:
        cfg: composed of ``settings``.

    Raises:
        SkipError: anything that the user can fix, in one line.
    """
    began = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    folder = root / f"{began}-{task['name']}"
    chosen = values_of(settings)
    is_whole = cfg.prune.ratio == 0 and cfg.prune.layers is None
    if is_whole and "retune.enabled" not in chosen:
        cfg.retune.enabled = False  # what is not cut needs no repair
    job = job_of(cfg, task, str(folder))
    check_given(job, settings)
    with _ONE:
        # What is refused has not waited for torch.
        with console.shown():
            pipeline = console.load_pipeline()
        with console.shown(folder / LOG_FILE), console.keep_state():
            console.quiet_lightning()
            if job.task.metrics[0] == "f1_macro" and "task.metrics" not in chosen:
                log.info("a class has few of the train rows: choices are made on f1_macro")
            model = _find_model(job, partial(results.run_recorded, pipeline.run))
            if job.tune.is_given and job.task.validation not in job.task.files:
                log.warning(
                    "a fifth of the rows was scored: if the model was trained on them, its score "
                    "is too high and a cut looks too costly; then give others: --validation FILE"
                )
            return model


def _find_model(cfg: Config, run_job: Callable[[Config], Any]) -> Any:
    """The model of a search, or of a single job; this one is weighed against cheap baselines."""
    if cfg.prune.within is not None:
        from skip_exp.within.run import find  # scikit-learn: not for a single job

        return find(cfg, run_job)
    from skip_exp.skill.skill import Skill  # torch is loaded by now

    result = run_job(cfg)
    skill = Skill.load(Path(cfg.output_dir) / str(result["skill"]))
    if cfg.benchmark.enabled and cfg.task.outcome.is_exclusive:
        from skip_exp.within.weigh import weigh  # scikit-learn

        weigh(cfg, skill, result)
    return skill
