"""The identity of a job, which is its key as the last stage: settings, content and code.

Imports no torch, so that a repeated command is answered within two seconds. Content from a hub is
unknown until it is loaded.
"""

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skip_exp.cache.version import digest, part_code, room_code, rooms_code
from skip_exp.config.schema import Config, TrainerConfig
from skip_exp.config.together import parts
from skip_exp.data.files import find_embedded_files, local_files
from skip_exp.models.embedded import find_shipped_skill, local_folder
from skip_exp.skill.record import RECORD, VERSION
from skip_exp.utils import files
from skip_exp.utils.machine import cores, hardware, list_gpus, multiplies_bf16

# Groups that do not affect results: only the precision and `extra` of `trainer` count, and timings
# are a stage of their own.
BESIDE = ("output_dir", "logger", "sweep", "cache", "trainer", "benchmark")
# Keys that name places, whose content counts.
PLACES = {
    "data": ("source", "dir"),
    "task": ("files", "start"),
    "tune": ("start",),
    "backbone": ("path",),
}
MODEL_FILES = (".json", ".txt", ".model", ".bin", ".safetensors")


@dataclass(frozen=True)
class Content:
    """Hashes of the rows, the backbone and the start of a job; None where unknown."""

    data: str | None
    backbone: str | None
    start: str | None  # empty without one


def find_content(cfg: Config) -> Content:
    """The content of local files; None for content from a hub."""
    data = None
    if cfg.data.source in ("auto", "local"):
        data = files.content(local_files(cfg.task, cfg.data.dir)) or None
    elif cfg.data.source == "embedded":
        data = files.content(find_embedded_files(cfg.task)) or None
    folder = local_folder(cfg.backbone.path)
    model = {}
    for path in folder.glob("*") if folder else ():
        if path.suffix in MODEL_FILES and path.is_file():
            model[path.name] = path
    return Content(data, files.content(model) or None, _start_content(cfg))


def hash_skill(folder: Path) -> str:
    """Hash of a skill's record, which holds the checksum of its tensors; empty without one."""
    return files.content({RECORD: folder / RECORD})


def _start_content(cfg: Config) -> str | None:
    name = cfg.tune.start
    if name is None:
        return ""
    if folder := find_shipped_skill(name, cfg.backbone.name):
        return hash_skill(folder)
    return "" if name == cfg.task.start else hash_skill(Path(name).expanduser()) or None


def job_key(cfg: Config, content: Content, precision: str) -> str:
    """The key of a job, which is its id.

    Args:
        content: all parts known.
        precision: of the trainers, ``auto`` resolved.
    """
    settings = {key: value for key, value in asdict(cfg).items() if key not in BESIDE}
    for group, names in PLACES.items():
        for name in names:
            del settings[group][name]
    del settings["prune"]["within"]  # such a search runs jobs that have a ratio
    used = [part for part in parts(cfg).values() if part]
    identity: dict[str, Any] = {
        "settings": settings,
        "content": asdict(content),
        "precision": precision,
        "code": [rooms_code(), room_code("pruning"), *map(part_code, used)],
        "skill": VERSION,  # a job holds the files of one
    }
    if cfg.trainer.extra:
        identity["extra"] = cfg.trainer.extra
    if cfg.prune.target_speedup is not None:  # a timing decides what is pruned
        identity["timing"] = [asdict(cfg.benchmark), find_place(cfg.trainer.accelerator)]
    return digest(identity)[:16]


def find_precision(trainer: TrainerConfig) -> str | None:
    """The precision that a job's trainers will use; None where torch must say it."""
    if trainer.precision != "auto":
        return trainer.precision
    if trainer.accelerator != "cpu" and list_gpus():
        return None
    return "bf16-mixed" if multiplies_bf16() else "32-true"


def find_place(accelerator: str) -> str:
    """Hash of processor, cores, threads and GPUs of this process, for which a timing holds."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    return digest([accelerator, cores(), *hardware(), gpus, count_threads()])[:16]


def count_threads() -> int:
    """Threads of torch in this process: those in use or, before it is loaded, its default."""
    if torch := sys.modules.get("torch"):
        threads: int = torch.get_num_threads()
        return threads
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() else cores() or 1
