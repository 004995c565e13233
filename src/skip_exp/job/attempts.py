"""Earlier attempts at a job: one that finished is reused, one that was killed is marked.

Imports no torch: a job that was done before is told in a second.
"""

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from skip_exp import results
from skip_exp.config.schema import Config, typed
from skip_exp.errors import SkipError
from skip_exp.job import again
from skip_exp.utils import files

if TYPE_CHECKING:
    from skip_exp.cache.store import Pointer

log = logging.getLogger(__name__)


def write_config(cfg: Config, job_id: str) -> None:
    """The resolved configuration, beside where the result will be.

    Raises:
        SkipError: the folder cannot be written, or holds another job's finished result.
    """
    output = Path(cfg.output_dir)
    results.check_folder(output, job_id)
    try:
        output.mkdir(parents=True, exist_ok=True)
        content = OmegaConf.to_yaml(OmegaConf.create(asdict(cfg))).encode()
        files.replace(output / results.CONFIG, content)
    except OSError as error:
        why = f"output_dir={output}: cannot be written: {error.strerror}"
        raise SkipError(why) from error


def reuse(
    cfg: Config, earlier: dict[str, Any], timing: Mapping[str, Any] | None = None
) -> results.Result:
    """The result of an earlier run of the same job, as this job's result; no W&B run is opened.

    Args:
        earlier: the result, with its ``path``.
        timing: fields that take the place of its own: :func:`skip_exp.job.timing.again`.
    """
    folder, output = Path(earlier.pop("path")).parent, Path(cfg.output_dir)
    log.info("done before, reused: %s", os.path.relpath(folder))
    result: Any = {**earlier, **(timing or {})}
    if folder.resolve() == output.resolve():  # the same command again
        is_worse = result["latency"].get("contended") and not earlier["latency"].get("contended")
        if not timing or is_worse:
            return cast(results.Result, earlier)  # the original stays as it is
    else:
        result |= {"reused": True, "sweep": cfg.logger.group}
        result["skill"] = str((folder / earlier["skill"]).resolve())
    results.write(output, result)
    return cast(results.Result, result)


def finished(earlier: "Pointer", job_id: str) -> dict[str, Any] | None:
    """The result of an attempt that finished, with its ``path``; None where none is left.

    A process may be killed after its result was written and before that was noted. Without its
    skill a result is none: the job is run again, from the cache.
    """
    folders = (earlier.result and earlier.result.parent, earlier.started)
    found = (again.finished(folder, job_id) for folder in folders if folder)
    return next((result for result in found if result), None)


def supersede(earlier: "Pointer", cfg: Config) -> None:
    """Mark an attempt that was killed, before the one that ``cfg`` describes takes its place.

    Its folder gets a failed result and its W&B run the tag ``superseded``. To be called with the
    job's lock held and *before* the new attempt is noted: if this process is killed as well, the
    note of the old attempt is still there and the next one marks it; marking twice does no harm.
    Whatever goes wrong costs a warning, never the new attempt.
    """
    old, new = earlier.started, Path(cfg.output_dir).resolve()
    if old is None or not old.is_dir() or _done(old):
        return
    log.info("an earlier attempt was killed, done again: %s", os.path.relpath(old))
    for leftover in (*old.glob("*.tmp"), *old.glob("skill/*.tmp")):
        with suppress(OSError):
            leftover.unlink()
    old_cfg = _configuration(old) or cfg
    error = f"superseded: ended without a result; done again in {new}"
    if old != new and not (old / results.FILE).is_file():
        try:
            results.write_failed(old, asdict(old_cfg), error)
        except SkipError as problem:
            log.warning("%s", problem)
    if cfg.logger.name == "wandb":
        from skip_exp.logger import runs  # brings torch and wandb; a job that is reused needs none

        runs.supersede(old_cfg, old, error)


@contextmanager
def told_full_disk(output: Path) -> Iterator[None]:
    """Turn a full disk, or a used-up quota, into one line, whatever was being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename2 or error.filename or f"output_dir={output}"
        raise SkipError(f"{where}: cannot be written: {error.strerror}") from error


def _done(folder: Path) -> dict[str, Any] | None:
    """The finished result in ``folder``, if there is one."""
    file = folder / results.FILE
    if not file.is_file():
        return None
    return next((result for result in results.load(file) if result["status"] == "done"), None)


def _configuration(folder: Path) -> Config | None:
    try:
        return typed(OmegaConf.load(folder / results.CONFIG), Config)
    except (OSError, YAMLError, OmegaConfBaseException, SkipError):
        return None
