"""``skip_exp.fit``: from rows to a small classifier, by the pipeline of the command line."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any

from skip_exp import pipeline, results
from skip_exp.api.task import task_of
from skip_exp.config import refusals
from skip_exp.config.compose import job_of, quoted
from skip_exp.config.schema import Config
from skip_exp.config.together import check_given, values_of
from skip_exp.errors import INTERRUPTED, SkipError
from skip_exp.skill.skill import Skill
from skip_exp.utils import console, state

_ONE = RLock()  # jobs of one process share the seeds, and the modules of a frozen backbone


def fit(
    data: Any,
    labels: Sequence[Any] | None = None,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    validation: Any = None,
    classes: Sequence[str] | None = None,
    group: str | None = None,
    ratio: float | str | None = None,
    backbone: str | None = None,
    name: str | None = None,
    output: str | Path = "outputs",
    overrides: Sequence[str] = (),
) -> Skill:
    """Tune a soft prompt on ``data``, prune what the task does not need, tune again.

    Example:
        >>> model = skip_exp.fit("tickets.csv", text="comment", label="verdict", ratio=0.7)
        >>> model.predict(["late again"])[0]["label"]
        'bad'

    The job is that of ``python -m skip_exp``: same phases, same cache, same result file. A second
    call with the same rows and settings answers at once.

    Args:
        data: path of a CSV, JSON or Parquet file, a data frame, a ``datasets.Dataset``, a
            list of rows as dictionaries, or a list of texts or pairs with ``labels``.
        labels: one per text, where ``data`` is a list of texts.
        text: the column of the texts; two for a task on pairs.
        label: the column of the labels.
        validation: rows that are scored, of any of these kinds; lists as (texts, labels). None: a
            fifth of ``data`` is set apart, stratified.
        classes: names of the classes, in order; None: all that the labels have, in the data set's
            order where it has one.
        group: column whose equal values, such as a user's, stay on one side of a made split.
        ratio: fraction of the block parameters to remove, or ``auto``; None: 0.5.
        backbone: a choice of ``conf/backbone``; None: that of the experiment, else ``minilm``.
        name: of the task in results; None: the file's.
        output: folder of results, of the cache and of rows that are no file yet.
        overrides: further settings, as on the command line: ``["tune.epochs=4"]``.

    Returns:
        The skill, with its job's numbers in ``result``.

    Raises:
        SkipError: anything that you can fix, in one line.
    """
    root = Path(output).expanduser()
    task = task_of(
        data,
        labels,
        text=text,
        label=label,
        validation=validation,
        classes=classes,
        group=group,
        name=name,
        root=root,
    )
    chosen = [] if backbone is None else [f"backbone={backbone}"]
    return run(task, [*chosen, *cut_to(ratio)], overrides, root)


def cut_to(ratio: float | str | None) -> list[str]:
    """The override for a ratio; none leaves the goal to other overrides."""
    return [] if ratio is None else [f"prune.ratio={ratio}"]


def run(
    task: Mapping[str, Any], settings: Sequence[str], overrides: Sequence[str], root: Path
) -> Skill:
    """Run a job on ``task`` below ``root`` and load what it leaves. Raises SkipError."""
    if isinstance(overrides, str):
        raise SkipError(f"overrides: {overrides}: must be a list, such as [{overrides!r}]")
    settings = [*settings, *overrides]
    given = values_of(settings)
    own = [] if "logger" in given else ["logger=none"]
    own += [] if "cache.dir" in given else [f"cache.dir={quoted(str(root / '.cache'))}"]
    began = datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    cfg = job_of(task, [*own, *settings], str(root / f"{began}-{task['name']}"))
    check_given(cfg, settings)
    with _ONE:
        with console.shown(), state.kept():
            console.quiet_lightning()
            result = _run(cfg)
        return Skill.load(Path(cfg.output_dir) / str(result["skill"]))


def _run(cfg: Config) -> Any:
    error = None
    try:
        return pipeline.run(cfg)
    except (KeyboardInterrupt, SystemExit):  # as Lightning ends a worker
        error = INTERRUPTED
        raise
    except Exception as problem:
        error = refusals.told(problem)
        with suppress(SkipError):  # a folder that cannot be written
            results.write_failed(cfg.output_dir, asdict(cfg), error)
        raise
    finally:
        if cfg.logger.name == "wandb":
            from skip_exp.logger import runs  # imports wandb

            runs.close(error)
