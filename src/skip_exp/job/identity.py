"""The identity of a job: a hash of all settings, code and content that can change its numbers.

Imports no torch, so that a repeated command is answered within a second. Content from a hub is
unknown until it is loaded.
"""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skip_exp.cache.versions import PIPELINE, code_version, digest, own_modules
from skip_exp.config.decide import FEW, RULES, USUAL
from skip_exp.config.prune import AUTO
from skip_exp.config.schema import Config
from skip_exp.config.together import parts
from skip_exp.config.train import TrainConfig
from skip_exp.data.files import embedded_files, local_files
from skip_exp.models.embedded import local_folder, shipped_skill
from skip_exp.skill.record import RECORD
from skip_exp.utils import files
from skip_exp.utils.machine import cores, hardware

# Settings that do not affect results. Only the resolved precision of `trainer` counts.
LEFT_OUT = ("output_dir", "logger", "sweep", "cache", "trainer")
MODEL_FILES = (".json", ".txt", ".model", ".bin", ".safetensors")
PLACE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Content:
    """Hashes of the rows, the backbone, the start and more texts of a job; None where unknown."""

    data: str | None
    backbone: str | None
    start: str | None  # empty without one
    unlabelled: str | None = ""  # empty without such a file


def local_content(cfg: Config) -> Content:
    """The content of local files; None for content from a hub."""
    data = None
    if cfg.data.source in ("auto", "local"):
        data = files.content(local_files(cfg.task, cfg.data.dir)) or None
    elif cfg.data.source == "embedded":
        data = files.content(embedded_files(cfg.task)) or None
    folder = local_folder(cfg.backbone.path)
    model = {path.name: path for path in folder.glob("*") if _is_model(path)} if folder else {}
    return Content(data, files.content(model) or None, _start_content(cfg), unlabelled_content(cfg))


def unlabelled_content(cfg: Config) -> str | None:
    """Hash of the file ``data.unlabelled``; empty if none is given, None if it cannot be read."""
    path = cfg.data.unlabelled
    if path is None:
        return ""
    return files.content({"unlabelled": Path(path).expanduser()}) or None


def start_name(cfg: Config) -> str | None:
    """The skill that tuning may start from; with ``tune.start=auto`` it need not fit."""
    if cfg.tune.start != AUTO:
        return cfg.tune.start
    return cfg.task.start if cfg.tune.train in (AUTO, "lora") else None


def skill_content(folder: Path) -> str:
    """Hash of a skill's record, which holds the checksum of its tensors; empty without one."""
    return files.content({RECORD: folder / RECORD})


def _start_content(cfg: Config) -> str | None:
    name = start_name(cfg)
    if name is None:
        return ""
    if folder := shipped_skill(name, cfg.backbone.name):
        return skill_content(folder)
    return "" if cfg.tune.start == AUTO else skill_content(Path(name).expanduser()) or None


def _is_model(path: Path) -> bool:
    return path.suffix in MODEL_FILES and path.is_file()


def job_id(cfg: Config, content: Content, precision: str) -> str:
    """The id of a job.

    Args:
        content: both parts known.
        precision: of the trainers, ``auto`` resolved.
    """
    settings = {key: value for key, value in asdict(cfg).items() if key not in LEFT_OUT}
    settings["prune"]["ratio"] = cfg.prune.goal.ratio
    settings |= {"tune": training(cfg.tune), "retune": training(cfg.retune)}
    if cfg.tune.train == AUTO:  # few rows give open rates other values
        settings["open"] = [cfg.retune.lr is None, cfg.retune.bias_lr is None]
    # The content of files counts, not their place.
    del settings["data"]["source"], settings["data"]["dir"], settings["task"]["files"]
    del settings["task"]["start"], settings["data"]["unlabelled"]
    identity = {
        "settings": settings,
        "rules": (*RULES, USUAL),
        "content": asdict(content),
        "precision": precision,
        "code": code_version(PIPELINE, *own_modules(*filter(None, parts(cfg).values()))),
        # A timing decides what is pruned.
        "place": here(cfg.trainer.accelerator)
        if cfg.prune.goal.target_speedup is not None
        else None,
    }
    return digest(identity)[:16]


def training(settings: TrainConfig) -> dict[str, Any]:
    """The settings of ``tune`` or ``retune`` that count: rank and its rate with LoRA only.

    The rates of the prompt and of the backbone are those that are used; where both ways are open,
    the prompt's are.
    """
    values = asdict(settings)
    ways = ("lora", FEW["tune"]["train"]) if settings.train == AUTO else (settings.train,)
    values["lr"] = [replace(settings, train=way).prompt_lr for way in ways]
    values["bias_lr"] = settings.backbone_lr
    values.pop("start", None)  # its content counts
    if settings.train not in (AUTO, "lora"):
        del values["rank"], values["lora_lr"]
    return values


def here(accelerator: str) -> str:
    """Hash of processor, cores, threads and GPUs of this process, for which a timing holds."""
    variables = map(os.environ.get, PLACE)
    return digest([accelerator, cores(), *hardware(), *variables])[:16]
