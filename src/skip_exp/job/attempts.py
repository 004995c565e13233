"""Was this job done before? One note per job, and one answer for the command and the pipeline.

A job that finished is reused, one that was killed is marked and run again. Imports no torch.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from skip_exp import results
from skip_exp.cache.versions import JOBS
from skip_exp.config.schema import Config, typed
from skip_exp.errors import SkipError
from skip_exp.job.identity import here, job_id, local_content
from skip_exp.utils import files

if TYPE_CHECKING:
    from skip_exp.cache.store import StageCache

log = logging.getLogger(__name__)

AUTO = ("32-true", "bf16-mixed")  # what the precision `auto` may stand for


@dataclass(frozen=True)
class Note:
    """What is known of a job's attempts: a small file in the cache.

    Attributes:
        result: ``result.json`` of the last attempt that finished.
        timed: that file, or a copy of it with a timing that holds at the place ``here``.
        started: output folder of the attempt that runs or, its lock free, was killed.
    """

    result: Path | None = None
    timed: Path | None = None
    here: str = ""
    started: Path | None = None

    def write(self, path: Path) -> None:
        """Write the note, or remove it where it says nothing. Raises OSError."""
        fields = {name: str(value) for name, value in asdict(self).items() if value}
        if fields:
            files.replace(path, json.dumps(fields, indent=1).encode())
        else:
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> "Note":
        """The note in ``path``; an empty one where it is missing or damaged."""
        try:
            content = dict(files.parse_json(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls()
        names = ("result", "timed", "started")
        paths = {name: Path(str(content[name])) for name in names if content.get(name)}
        return cls(here=str(content.get("here", "")), **paths)


def finished(folders: Iterable[Path | None], job_id: str) -> dict[str, Any] | None:
    """The first finished result of a job in ``folders``, with its ``path``, if its skill is there.

    This is the one answer to "was this job done before?".
    """
    for folder in filter(None, folders):
        done = results.finished(folder)
        if done and done.get("job_id") == job_id:
            skill = folder / str(done.get("skill"))
            if all((skill / name).is_file() for name in results.SKILL):
                return next(iter(results.load(folder / results.FILE)), None)
    return None


def repeat(cfg: Config) -> results.Result | None:
    """The result of the same job, where that is certain before torch is loaded; else None."""
    content = local_content(cfg)
    if not (cfg.sweep.skip_done and cfg.cache.dir and content.data and content.backbone):
        return None
    auto = cfg.trainer.precision == "auto"
    for precision in AUTO if auto else (cfg.trainer.precision,):
        this = job_id(cfg, content, precision)
        note = Note.read(Path(cfg.cache.dir) / JOBS / this)
        timed = note.timed.parent if note.timed and note.here == here(cfg) else None
        done = finished([timed], this)
        if done and not done["latency"].get("contended"):
            write_config(cfg, this)
            return _reuse(cfg, done, {})
    return None


class Attempts:
    """The attempts at one job, while its lock is held: see :func:`hold`."""

    def __init__(self, cfg: Config, job_id: str, cache: "StageCache", path: Path | None) -> None:
        self.cfg, self.job_id, self.cache, self.path = cfg, job_id, cache, path
        self.note = Note() if path is None else Note.read(path)

    def finished(self) -> dict[str, Any] | None:
        """The result to reuse, with its ``path``; None where the job is to be run.

        A process may be killed after it wrote its result and before that was noted.
        """
        if self.path is None or not self.cfg.sweep.skip_done:
            return None
        noted = self.note.result and self.note.result.parent
        return finished([Path(self.cfg.output_dir), noted, self.note.started], self.job_id)

    def reuse(self, done: dict[str, Any], timing: Mapping[str, Any]) -> results.Result:
        """The earlier result as this job's; ``timing``: fields that replace its own, if any."""
        result = _reuse(self.cfg, done, timing)
        original = Path(done["path"]).resolve()
        timed = Path(self.cfg.output_dir).resolve() / results.FILE if timing else original
        holds = not timing or result["latency"] == timing["latency"]
        known = self.note.result if self.note.result and self.note.result.is_file() else original
        self._put(Note(known, timed if holds else None, here(self.cfg) if holds else ""))
        return result

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Note that an attempt runs, and that it left a result. A killed one stays noted."""
        _supersede(self.note.started, self.cfg)
        output = Path(self.cfg.output_dir).resolve()
        self._put(replace(self.note, started=output))
        try:
            with files.full_disk_is_refused(output):
                yield
        except Exception:
            self._put(replace(self.note, started=None))  # its own result says that it failed
            raise
        file = output / results.FILE
        self._put(Note(file, file, here(self.cfg)))

    def _put(self, note: Note) -> None:
        if self.path is not None and note != self.note:
            with self.cache.warned("job not noted"):
                note.write(self.path)
        self.note = note


@contextmanager
def hold(cfg: Config, job_id: str, cache: "StageCache") -> Iterator[Attempts]:
    """Hold a job: a second process that is given the same one waits for the first.

    Raises:
        SkipError: the output folder cannot be written, or holds another job's finished result.
    """
    write_config(cfg, job_id)
    path = cache.folder / JOBS / job_id if cache.folder else None
    if path is None:
        yield Attempts(cfg, job_id, cache, None)
        return
    with cache.held(path) as is_held:
        yield Attempts(cfg, job_id, cache, path if is_held else None)


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


def _reuse(cfg: Config, done: dict[str, Any], timing: Mapping[str, Any]) -> results.Result:
    """Write an earlier result as that of ``cfg``; no W&B run is opened."""
    folder, output = Path(done["path"]).parent, Path(cfg.output_dir)
    log.info("done before, reused: %s", os.path.relpath(folder))
    earlier = {name: value for name, value in done.items() if name != "path"}
    result: Any = {**earlier, **timing}
    if folder.resolve() == output.resolve():  # the same command again
        is_worse = result["latency"].get("contended") and not earlier["latency"].get("contended")
        if not timing or is_worse:
            return cast(results.Result, earlier)  # the original stays as it is
    else:
        result |= {"reused": True, "sweep": cfg.logger.group}
        result["skill"] = str((folder / earlier["skill"]).resolve())
    results.write(output, result)
    return cast(results.Result, result)


def _supersede(old: Path | None, cfg: Config) -> None:
    """Mark an attempt that was killed, before the one that ``cfg`` describes takes its place.

    Its folder gets a failed result and its W&B run the tag ``superseded``. The job's lock is held
    and the new attempt not yet noted: if this process is killed as well, the next one marks the old
    attempt, and marking twice does no harm. A failure costs a warning, never the new attempt.
    """
    new = Path(cfg.output_dir).resolve()
    if old is None or not old.is_dir() or results.finished(old):
        return
    log.info("an earlier attempt was killed; running it again: %s", os.path.relpath(old))
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


def _configuration(folder: Path) -> Config | None:
    try:
        return typed(OmegaConf.load(folder / results.CONFIG), Config)
    except (OSError, YAMLError, OmegaConfBaseException, SkipError):
        return None
