"""Was this job done before? One answer for the command and the pipeline.

A note per job in the cache lists its results. Imports no torch.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from skip_exp import results
from skip_exp.cache.versions import JOBS
from skip_exp.config.schema import Config
from skip_exp.errors import SkipError
from skip_exp.job.identity import here, job_id, local_content
from skip_exp.results import Result
from skip_exp.skill.record import RECORD, TENSORS, read_bytes, read_verified
from skip_exp.utils import files
from skip_exp.utils.machine import BUSY, busy_cores

if TYPE_CHECKING:
    from skip_exp.cache.store import StageCache

log = logging.getLogger(__name__)

PLACES = (  # keys of which the content counts, not the path
    *(("task", "files"), ("data", "dir"), ("data", "source"), ("data", "unlabelled")),
    *(("tune", "start"), ("cache", "dir")),
)
NOTED = 20  # results of a job that are remembered
AUTO = ("32-true", "bf16-mixed")  # what the precision `auto` may stand for


def noted(note: Path) -> list[Path]:
    """The results of a job that its note lists; none where it is missing or damaged."""
    try:
        return [*map(Path, files.parse_json(note.read_bytes()))]
    except (OSError, ValueError, TypeError):
        return []


def add(note: Path | None, output: Path, is_copy: bool = False) -> None:
    """Note the result in ``output``, first, a copy last; without a note it is not reused."""
    if note is None:
        return
    new, earlier = [(output / results.FILE).resolve()], [*filter(Path.is_file, noted(note))]
    known = dict.fromkeys([*earlier, *new] if is_copy else [*new, *earlier])
    with suppress(OSError):
        files.replace(note, json.dumps([*map(str, known)][:NOTED], indent=1).encode())


def finished(cfg: Config, job_id: str, note: Path | None) -> Result | None:
    """The finished result of a job, with its ``path``, whose skill is there; else None.

    This is the one answer to "was this job done before?". Results with a timing that holds here
    come first.
    """
    if note is None or not cfg.sweep.skip_done:
        return None
    folders = [Path(cfg.output_dir), *(file.parent for file in noted(note))]
    first = None
    for folder in folders:
        done = _finished(folder, job_id)
        if done and not stale(cfg, done):
            return done
        first = first or done
    return first


def _finished(folder: Path, job_id: str) -> Result | None:
    done = results.finished(folder)
    if not done or done.get("job_id") != job_id:
        return None
    try:
        read_verified(folder / str(done.get("skill")))
    except SkipError:  # missing or damaged: the job runs again
        return None
    return next(iter(results.load(folder / results.FILE)), None)


def stale(cfg: Config, done: Result) -> str:
    """Why the timing of an earlier result does not hold here; empty where it does."""
    latency = done.latency
    if not cfg.benchmark.enabled:
        return ""
    if latency.place != here(cfg.trainer.accelerator):
        return f"measured on {latency.device}, threads={latency.threads}"
    return "contended" if latency.contended else ""


def holds(cfg: Config, done: Result) -> bool:
    """Whether to answer with the timing of an earlier result: nothing is timed under load."""
    why = stale(cfg, done)
    if why and (busy := busy_cores()) > BUSY:
        log.info("keeping the earlier timing (%s): other processes use %.1f cores", why, busy)
        return True
    return not why


def repeat(cfg: Config) -> Result | None:
    """The result of the same job, where that is certain before torch is loaded; else None."""
    content = local_content(cfg)
    known = content.data and content.backbone
    if not (cfg.cache.dir and known) or None in (content.start, content.unlabelled):
        return None
    wanted = cfg.trainer.precision
    for precision in AUTO if wanted == "auto" else (wanted,):
        this = job_id(cfg, content, precision)
        done = finished(cfg, this, Path(cfg.cache.dir) / JOBS / this)
        # A precision that was given says nothing of what `auto` stands for here.
        if done and wanted == "auto" and done.config["trainer"]["precision"] != wanted:
            continue
        if done and holds(cfg, done):
            write_config(cfg, this)
            return reuse(cfg, done, {}, Path(cfg.cache.dir) / JOBS / this)
    return None


@contextmanager
def hold(cfg: Config, job_id: str, cache: "StageCache") -> Iterator[Path | None]:
    """Hold a job's lock: a second process with the same job waits for the first.

    Yields the job's note, also where the cache can be read only; None without a cache.

    Raises:
        SkipError: the output folder cannot be written, or holds another job's finished result.
    """
    write_config(cfg, job_id)
    path = cache.folder / JOBS / job_id if cache.folder else None
    with cache.held(path) if path else nullcontext():
        yield path


def write_config(cfg: Config, job_id: str) -> None:
    """The resolved configuration, beside where the result will be.

    Raises:
        SkipError: the folder cannot be written, or holds another job's finished result.
    """
    output = Path(cfg.output_dir)
    results.check_folder(output, job_id)
    content = OmegaConf.to_yaml(OmegaConf.create(asdict(cfg))).encode()
    files.save(output / results.CONFIG, content, f"output_dir={output}")


def reuse(cfg: Config, done: Result, timing: Mapping[str, Any], note: Path | None = None) -> Result:
    """Write an earlier result as that of ``cfg``; no W&B run is opened.

    Args:
        timing: fields that replace those of ``done``; they are noted, and so is a copy.

    Raises:
        SkipError: the skill cannot be copied.
    """
    folder, output = Path(str(done.path)).parent, Path(cfg.output_dir)
    more = " (no new W&B run)" if cfg.logger.name == "wandb" else ""
    log.info("done before, reusing %s%s", os.path.relpath(folder), more)
    own, result = _finished(output, done.job_id), done.replace(**timing)
    if own:  # the same command again: only its timing may change
        result = own.replace(latency=result.latency, retimed=result.retimed)
    else:
        results.check_folder(output, done.job_id)  # before its skill is replaced
        _copy_skill(folder / str(done.skill), output / "skill")
        result = result.replace(reused=True, sweep=cfg.sweep.id, skill="skill")
    result.config = _placed(result.config, asdict(cfg))
    results.write(output, result)  # also where it is the same: it answers this command
    if timing or not own:
        add(note, output, is_copy=not timing)
    return result


def _placed(done: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a finished job with today's places: the same content may have moved."""
    found = {**done, "output_dir": now["output_dir"]}
    for group, name in PLACES:
        found[group] = {**found.get(group, {}), name: now[group][name]}
    return found


def _copy_skill(source: Path, target: Path) -> None:
    """Copy a skill, so that each job's folder can be used without the others."""
    content = {name: read_bytes(source / name) for name in (TENSORS, RECORD)}
    for name in content:
        files.save(target / name, content[name])
