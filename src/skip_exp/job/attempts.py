"""Was this job done before? One note per job, and one answer for the command and the pipeline.

A finished job is reused; a killed one is marked and runs again. Imports no torch.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
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
from skip_exp.utils.machine import BUSY, busy_cores

if TYPE_CHECKING:
    from skip_exp.cache.store import StageCache

log = logging.getLogger(__name__)

AUTO = ("32-true", "bf16-mixed")  # what the precision `auto` may stand for


@dataclass(frozen=True)
class Note:
    """A small file in the cache about the attempts at a job.

    Attributes:
        results: ``result.json`` of the attempt that finished, and copies with later timings.
        started: output folder of the attempt that runs or, its lock free, was killed.
    """

    results: tuple[Path, ...] = ()
    started: Path | None = None

    def write(self, path: Path) -> None:
        """Write the note, or remove it where it says nothing. Raises OSError."""
        fields = {"results": [*map(str, self.results)], "started": str(self.started or "")}
        if any(fields.values()):
            files.replace(path, json.dumps(fields, indent=1).encode())
        else:
            path.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> "Note":
        """The note in ``path``; an empty one where it is missing or damaged."""
        try:
            content = files.parse_json(path.read_bytes())
            started = content["started"]
            return cls((*map(Path, content["results"]),), Path(started) if started else None)
        except (OSError, ValueError, TypeError, KeyError):
            return cls()


def finished(cfg: Config, job_id: str, note: Note) -> dict[str, Any] | None:
    """The finished result of a job, with its ``path``, whose skill is there; else None.

    This is the one answer to "was this job done before?". Results with a timing that holds here
    come first. An attempt may have been killed after it wrote its result.
    """
    folders = [Path(cfg.output_dir), *(file.parent for file in note.results), note.started]
    found = [done for folder in folders if folder and (done := _finished(folder, job_id))]
    return min(found, key=lambda done: stale(cfg, done) != "", default=None)


def _finished(folder: Path, job_id: str) -> dict[str, Any] | None:
    done = results.finished(folder)
    if not done or done.get("job_id") != job_id:
        return None
    skill = folder / str(done.get("skill"))
    if not all((skill / name).is_file() for name in results.SKILL):
        return None
    return next(iter(results.load(folder / results.FILE)), None)


def stale(cfg: Config, done: Mapping[str, Any]) -> str:
    """Why the timing of an earlier result does not hold here; empty where it does."""
    latency = done["latency"]
    if not cfg.benchmark.enabled:
        return ""
    if latency.get("place") != here(cfg.trainer.accelerator):
        return f"measured on {latency.get('device')}, threads={latency.get('threads')}"
    return "contended" if latency.get("contended") else ""


def holds(cfg: Config, done: Mapping[str, Any]) -> bool:
    """Whether to answer with the timing of an earlier result: nothing is timed under load."""
    why = stale(cfg, done)
    if why and (busy := busy_cores()) > BUSY:
        log.info("keeping the earlier timing (%s): other processes use %.1f cores", why, busy)
        return True
    return not why


def repeat(cfg: Config) -> results.Result | None:
    """The result of the same job, where that is certain before torch is loaded; else None."""
    content = local_content(cfg)
    if not (cfg.sweep.skip_done and cfg.cache.dir and content.data and content.backbone):
        return None
    auto = cfg.trainer.precision == "auto"
    for precision in AUTO if auto else (cfg.trainer.precision,):
        this = job_id(cfg, content, precision)
        done = finished(cfg, this, Note.read(Path(cfg.cache.dir) / JOBS / this))
        if done and holds(cfg, done):
            write_config(cfg, this)
            return _reuse(cfg, done, {})
    return None


class Attempts:
    """The attempts at one job, while its lock is held: see :func:`hold`."""

    def __init__(self, cfg: Config, job_id: str, cache: "StageCache", path: Path | None) -> None:
        self.cfg, self.job_id, self.cache, self.path = cfg, job_id, cache, path
        self.note = Note() if path is None else Note.read(path)

    def finished(self) -> dict[str, Any] | None:
        """The result to reuse, with its ``path``; None where the job is to be run."""
        if self.path is None or not self.cfg.sweep.skip_done:
            return None
        return finished(self.cfg, self.job_id, self.note)

    def reuse(self, done: dict[str, Any], timing: Mapping[str, Any]) -> results.Result:
        """The earlier result as this job's, with the fields of ``timing`` replaced."""
        result = _reuse(self.cfg, done, timing)
        latest = Path(self.cfg.output_dir) / results.FILE if timing else Path(done["path"])
        known = dict.fromkeys([latest.resolve(), *filter(Path.is_file, self.note.results)])
        self._put(Note(results=(*known,)))
        return result

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Note that an attempt runs, then its result. A killed attempt stays noted."""
        _supersede(self.note.started, self.cfg)
        output = Path(self.cfg.output_dir).resolve()
        self._put(replace(self.note, started=output))
        try:
            with files.full_disk_is_refused(output):
                yield
        except Exception:
            self._put(replace(self.note, started=None))  # its own result says that it failed
            raise
        self._put(Note(results=(output / results.FILE,)))

    def _put(self, note: Note) -> None:
        if self.path is not None and note != self.note:
            with self.cache.warned("job not noted"):
                note.write(self.path)
        self.note = note


@contextmanager
def hold(cfg: Config, job_id: str, cache: "StageCache") -> Iterator[Attempts]:
    """Hold a job's lock: a second process with the same job waits for the first.

    Raises:
        SkipError: the output folder cannot be written, or holds another job's finished result.
    """
    write_config(cfg, job_id)
    path = cache.folder / JOBS / job_id if cache.folder else None
    with cache.held(path) if path else nullcontext(False) as is_held:
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
    log.info("done before, reusing %s", os.path.relpath(folder))
    result: Any = {**done, **timing, "reused": True, "sweep": cfg.logger.group}
    result["skill"] = str((folder / done["skill"]).resolve())
    own = results.finished(output)
    if own:  # the same command again: only its timing may change
        result = own | {name: result[name] for name in ("latency", "retimed")}
    if result != own:
        results.write(output, result)
    return cast(results.Result, result)


def _supersede(old: Path | None, cfg: Config) -> None:
    """Mark a killed attempt: a failed result in its folder, the tag ``superseded`` in W&B.

    The job's lock is held and the new attempt not yet noted, so that the next process marks the old
    one if this process is killed, too. A failure causes a warning only.
    """
    new = Path(cfg.output_dir).resolve()
    if old is None or not old.is_dir() or results.finished(old):
        return
    log.info("running again: the earlier attempt in %s was killed", os.path.relpath(old))
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
