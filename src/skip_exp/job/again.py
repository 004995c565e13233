"""The same command again: known from a note, before torch, the backbone or the data are loaded.

A job's id takes the content of its data and of its backbone. The note says by what files, sizes and
times of change that content was known, so that whoever finds all of them unchanged need not read
them. Where anything may have changed unseen, as on a hub or in code of one's own, none is left.
"""

import json
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skip_exp import results
from skip_exp.cache.versions import digest, job_code
from skip_exp.config.schema import Config
from skip_exp.utils import files
from skip_exp.utils.provenance import cores, processor

if TYPE_CHECKING:
    from skip_exp.job.job import Job

# Of these no job's numbers depend.
_LEFT_OUT = ("output_dir", "logger", "sweep", "cache", "debug")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of torch: a timing is of their number


def find(cfg: Config) -> dict[str, Any] | None:
    """The finished result of the same job, with its ``path``; None where that is not certain."""
    if not (cfg.sweep.skip_done and cfg.cache.enabled):
        return None
    try:
        note = json.loads(_file(cfg).read_bytes())
        if _stamp(note["read"]) != note["stamp"]:
            return None
        result = finished(Path(note["result"]).parent, note["job_id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if result is None or result["latency"].get("contended") else result


def finished(folder: Path, job_id: str) -> dict[str, Any] | None:
    """The result in ``folder``, if it is that job's, finished, and its skill is still there."""
    file = folder / results.FILE
    if not file.is_file():
        return None
    for result in results.load(file):
        skill = folder / str(result.get("skill"))
        whole = all((skill / name).is_file() for name in results.SKILL)
        if result["status"] == "done" and result.get("job_id") == job_id and whole:
            return result
    return None


def note(job: "Job", result: Path) -> None:
    """Leave a note that ``result`` is the job's; a cache that cannot be written costs nothing."""
    read = _read(job)
    if read is None or not job.cfg.cache.enabled:
        return
    with suppress(OSError):
        content = {
            # As the jobs' own notes beside it, so that the cache's commands know it.
            "result": str(result.resolve()),
            "entries": [],
            "job_id": job.job_id,
            "read": [str(path) for path in read],
            "stamp": _stamp(read),
        }
        file = _file(job.cfg)
        file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(file, json.dumps(content, indent=1).encode())


def _file(cfg: Config) -> Path:
    """Where the note is: named by the settings, the code and the machine."""
    settings = {key: value for key, value in asdict(cfg).items() if key not in _LEFT_OUT}
    settings["trainer"].pop("progress")
    # They decide what timings hold for.
    machine = [platform.node(), sys.prefix, processor(), cores()]
    variables = map(os.environ.get, ("SKIP_EXP_DATA", "CUDA_VISIBLE_DEVICES", *_THREADS))
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    here = [os.getcwd(), *variables, *machine, *gpus]
    return Path(cfg.cache.dir) / "jobs" / digest([settings, job_code(), here])[:32]


def _read(job: "Job") -> list[Path] | None:
    """The files and folders that the job's content came from; None where it may change unseen."""
    # By now torch is there.
    from skip_exp.models.backbones import embedded_folder

    cfg, source = job.cfg, job.data.source
    own = [cfg.prompt.kind, cfg.backbone.readout, cfg.prune.allocation]
    if any("." in name for name in own) or not cfg.attribution._target_.startswith("skip_exp."):
        return None
    embedded = cfg.backbone.path.removeprefix("embedded:")
    is_embedded = embedded != cfg.backbone.path
    model = embedded_folder(embedded) if is_embedded else Path(cfg.backbone.path).expanduser()
    if not model.is_dir():
        return None
    if source == "sample":  # generated; `auto` would look elsewhere first
        return [model] if cfg.data.source == "sample" else None
    if not source.startswith("local:"):
        return None
    if cfg.task.files:
        return [model, *(Path(file).expanduser() for file in cfg.task.files.values())]
    return [model, Path(source.removeprefix("local:")).expanduser() / cfg.task.name]


def _stamp(paths: Iterable[Path | str]) -> list[list[str | int]]:
    """:func:`files.stamp` as JSON gives it back."""
    return [list(file) for file in files.stamp(*map(Path, paths))]
