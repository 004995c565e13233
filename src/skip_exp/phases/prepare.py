"""Before the phases: from a configuration to a job, with all refusals that need no work."""

import inspect
import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from skip_exp.backbones.load import Backbone, build_readout, load_backbone
from skip_exp.cache.store import Keyed, StageCache
from skip_exp.cache.version import digest, parts_code
from skip_exp.callbacks.between import Method
from skip_exp.config.checks import import_part
from skip_exp.config.schema import AttributionConfig, Config
from skip_exp.data.module import encode
from skip_exp.data.rows import Rows
from skip_exp.data.sources import load_rows, local_files
from skip_exp.errors import ConfigError
from skip_exp.models.prompts import PROMPT_CLASSES
from skip_exp.models.readouts import READOUT_CLASSES
from skip_exp.models.surgery import shape_of
from skip_exp.outcomes.labels import class_names
from skip_exp.phases.build import find_start, phase_seed
from skip_exp.phases.job import Job
from skip_exp.pruning import allocate
from skip_exp.training.trainer import usable
from skip_exp.utils.files import stamp

log = logging.getLogger(__name__)


def prepare(cfg: Config) -> Job:
    """Build a job and refuse everything that can be refused before any work.

    Raises:
        SkipError: data or a backbone that cannot be loaded, or values that exclude each other.
    """
    needed = cfg.backbone
    backbone = load_backbone(needed.name, needed.path, needed.family, needed.readout)
    # The rows come last, because encoding them takes longest.
    check_backbone(cfg, backbone)
    start = find_start(cfg, backbone)
    trainer = usable(cfg.trainer)
    data = _read_data(cfg, backbone)
    if start:
        cfg = replace(cfg, prompt=replace(cfg.prompt, length=start.length))
    check_length(cfg, backbone)
    return Job(
        cfg=cfg,
        data=data,
        backbone=backbone,
        trainer=trainer,
        method=method_of(cfg.attribution, phase_seed(cfg.seed, "attribute")),
        cache=StageCache(Path(cfg.cache.dir) if cfg.cache.dir else None),
        start=start,
    )


def check_backbone(cfg: Config, backbone: Backbone) -> None:
    """Refuse what ``backbone`` cannot do, before any work. Raises SkipError."""
    task = cfg.task
    build_readout(backbone, task.num_labels, tuple(task.words))  # refuses what it cannot read
    if cfg.backbone.readout == "classifier":
        names = class_names(dict(backbone.model.config.id2label or {}))
        if names is not None and list(task.labels) != names:
            raise ConfigError(
                "task.labels",
                task.labels,
                f"must be the checkpoint's classes, in its order: {', '.join(names)}",
            )
    allocate.check(
        [shape_of(block) for block in backbone.family.blocks(backbone.model)],
        ratio=cfg.prune.given_ratio,
        sites=cfg.prune.sites,
        allocation=cfg.prune.allocation,
        layers=cfg.prune.layers,
    )


def check_length(cfg: Config, backbone: Backbone) -> None:
    """Refuse a prompt and texts that have no room beside each other. Raises ConfigError."""
    limit = backbone.max_positions
    if limit is None:
        return
    prompt = cfg.prompt
    # A prefix starts from the keys that the backbone computes for as many tokens.
    if prompt.kind == "prefix" and prompt.length > limit:
        raise ConfigError(
            "prompt.length",
            prompt.length,
            f"must be at most {limit}, the positions of {backbone.name}",
        )
    virtual = READOUT_CLASSES[backbone.readout].added
    if PROMPT_CLASSES[prompt.kind].at_input:
        virtual += prompt.length
    lengths = {"data.max_length": cfg.data.max_length, "benchmark.seq_len": cfg.benchmark.seq_len}
    for key, length in lengths.items():
        if length + virtual > limit:
            raise ConfigError(
                key,
                length,
                f"must be at most {limit - virtual}: of the {limit} positions of {backbone.name}, "
                f"{virtual} are for prompt and readout",
            )


_loaded: dict[str, Rows] = {}  # tokenised data of the last few tasks of this process


def _read_data(cfg: Config, backbone: Backbone) -> Rows:
    """The rows of the job as token ids; the log says where they are from."""
    data = _encode_rows(cfg, backbone)
    log.info(
        "%s: %d train, %d select, %d validation rows from %s",
        cfg.task.name,
        len(data.train),
        len(data.select),
        len(data.validation),
        data.source,
    )
    if data.is_sample:
        log.warning(
            "%s: rows of %s STAND IN for the task's own: no score is one of the task",
            cfg.task.name,
            data.source,
        )
    return data


def _encode_rows(cfg: Config, backbone: Backbone) -> Rows:
    """All rows of the task, encoded once for the jobs of a process."""
    task = cfg.task
    data = cfg.data
    files = stamp(*local_files(task, data.dir).values())
    # The seed draws train rows and, where a task has no validation file, those set apart.
    is_apart = bool(task.files) and task.validation not in task.files
    seed = cfg.seed if is_apart or data.train_rows is not None else None
    key = digest([asdict(task), asdict(data), files, seed, backbone.content_hash])
    if key not in _loaded:
        rows = load_rows(task, data, cfg.seed)
        while len(_loaded) >= 4:
            _loaded.pop(next(iter(_loaded)))
        _loaded[key] = encode(rows, backbone.tokenizer, data.max_length)
    return _loaded[key]


def method_of(settings: AttributionConfig, seed: int) -> Keyed[Method]:
    """The attribution method with its options, and the seed where it draws at random.

    Raises:
        ConfigError: the method cannot be imported, is no function or lacks an option.
    """
    target = settings._target_
    method = import_part("attribution._target_", target)
    parameters = inspect.signature(method).parameters
    # Else a misspelt option would be refused only after tuning.
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, value in settings.options.items():
        if name not in parameters and not takes_any:
            known = ", ".join(list(parameters)[2:]) or "none"
            raise ConfigError(
                f"attribution.options.{name}",
                value,
                f"no such option of {target}, which has: {known}; attribution=random sets none",
            )
    options = dict(settings.options)
    if "seed" in parameters:
        options = {"seed": seed} | options
    return Keyed(digest([target, parts_code(target), options]), lambda: partial(method, **options))
