"""Before the phases: from a configuration to a job, refusing whatever can be refused for free."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_method

from skip_exp.cache.store import StageCache
from skip_exp.cache.versions import code_version, digest, job_code
from skip_exp.config import together
from skip_exp.config.schema import AttributionConfig, Config, TrainConfig
from skip_exp.config.task import TaskConfig
from skip_exp.data.encode import EncodedTask, draw_rows, encode
from skip_exp.data.sources import load_task, local_stamp
from skip_exp.errors import ConfigError, SkipError, first_line
from skip_exp.job.job import Job, phase_seed
from skip_exp.models.backbones import Backbone, load_backbone
from skip_exp.models.prompts.build import prompt_class
from skip_exp.models.readouts.build import build_readout, readout_class
from skip_exp.models.sites import Relevance, shapes
from skip_exp.pruning import allocate
from skip_exp.training.trainer import root_device, usable
from skip_exp.utils.timing import place

log = logging.getLogger(__name__)


def prepare(cfg: Config) -> Job:
    """Build a job and refuse everything that can be refused before any work is spent.

    Raises:
        SkipError: data or a backbone that cannot be had, or values that do not go together.
    """
    together.check(cfg)
    b = cfg.backbone
    backbone = load_backbone(b.label, b.path, b.family, b.readout, b.layers)
    _check_length(cfg, backbone)
    _check_readout(cfg, backbone)
    _check_goal(cfg, backbone)
    trainer = usable(cfg.trainer)
    data = _data(cfg.task, cfg, backbone)
    if cfg.data.train_rows is not None:
        data = draw_rows(data, cfg.data.train_rows, phase_seed(cfg.seed, "rows"))
    log.info(
        "%s: %d train, %d select, %d validation rows from %s",
        *(cfg.task.name, len(data.train), len(data.select), len(data.validation), data.source),
    )
    if data.is_sample:
        log.warning(
            "%s: GENERATED SAMPLE DATA, not the real task: no score means anything for it",
            cfg.task.name,
        )
    keys = _keys(cfg, data, backbone, trainer.precision)
    prune = asdict(cfg.prune) | {"ratio": cfg.prune.goal.ratio}
    identity = keys["probe"] | {
        "prune": prune,
        "layers": b.layers,  # the whole, which sizes and times are compared with, is in no hash
        "benchmark": asdict(cfg.benchmark),
        "code": job_code(),
    }
    if cfg.prune.goal.target_speedup is not None:  # what is cut is chosen by a timing
        identity |= place(root_device(trainer))
    return Job(
        cfg=cfg,
        data=data,
        backbone=backbone,
        trainer=trainer,
        method=_method(cfg.attribution, phase_seed(cfg.seed, "attribute")),
        cache=StageCache(Path(cfg.cache.dir) if cfg.cache.enabled else None),
        keys=keys,
        job_id=digest(identity)[:16],
    )


def _keys(
    cfg: Config, data: EncodedTask, backbone: Backbone, precision: str
) -> dict[str, dict[str, Any]]:
    """By stage, the values that its entries depend on beside its code."""
    task, b = data.spec, cfg.backbone
    tune = {
        "data": [data.fingerprint, task.name, cfg.data.max_length, task.text],
        "train_rows": data.train_rows,  # which ones follows from the seed
        "metrics": task.metrics,
        "labels": task.labels,
        "backbone": [backbone.content_hash, b.family, b.readout, b.pooling, task.words],
        "prompt": asdict(cfg.prompt),
        "tune": _training(cfg.tune),
        "seed": cfg.seed,
        "precision": precision,
        "own": own_code(cfg.prompt.kind, b.readout),
    }
    # The method may be anybody's function: its code is no part of this package's.
    method = {"attribution": asdict(cfg.attribution), "method": _code(cfg.attribution._target_)}
    cut = {"retune": _training(cfg.retune), "allocation": own_code(cfg.prune.allocation)}
    return {
        "tune": tune,
        "teacher": tune,
        "hidden": tune,
        "score": tune | {"extra": task.extra},
        "attribute": tune | method,
        "probe": tune | method | cut,  # and how much is cut: see phases.search
    }


def _training(settings: TrainConfig) -> dict[str, Any]:
    """What counts of ``tune`` or ``retune``: of low-rank updates only where there are some."""
    values = asdict(settings)
    if settings.train != "lora":
        del values["rank"], values["lora_lr"]
    return values


def _code(target: str) -> str:
    return code_version(target.rpartition(".")[0])


def own_code(*names: str) -> dict[str, str]:
    """Code of the parts that are named by their place (``module.Class``), not by a short name."""
    return {name: _code(name) for name in names if "." in name}


_loaded: dict[str, EncodedTask] = {}  # tokenised data, once per process; the last few tasks


def _data(task: TaskConfig, cfg: Config, backbone: Backbone) -> EncodedTask:
    """The task's rows as token ids; only an embedded backbone may end on generated data."""
    source, folder, length = cfg.data.source, cfg.data.dir, cfg.data.max_length
    files = local_stamp(task, folder)
    key = digest([asdict(task), source, folder, files, length, backbone.content_hash])
    if key not in _loaded:
        raw = load_task(task, source, folder, allow_sample=backbone.is_embedded)
        while len(_loaded) >= 4:
            _loaded.pop(next(iter(_loaded)))
        _loaded[key] = encode(raw, backbone.tokenizer, length)
    return _loaded[key]


def _method(settings: AttributionConfig, seed: int) -> Callable[..., Relevance]:
    """The attribution method with its options, and the seed where it draws at random."""
    target = settings._target_
    try:
        method = get_method(target)
    except Exception as error:  # Hydra wraps whatever the import raised
        why = first_line(error)
        raise ConfigError("attribution._target_", target, f"cannot be imported: {why}") from error
    parameters = inspect.signature(method).parameters
    common_options = {key: getattr(settings, key) for key in ("tokens", "sign", "target")}
    named = {
        key: (f"attribution.{key}", value)
        for key, value in common_options.items()
        if value is not None
    }
    for key, value in settings.options.items():
        named[key] = (f"attribution.options.{key}", value)
    for key, (name, value) in named.items():
        if key not in parameters:
            raise ConfigError(name, value, f"{target} has no such option")
    options = {key: value for key, (_, value) in named.items()}
    return partial(method, **options | ({"seed": seed} if "seed" in parameters else {}))


def _check_length(cfg: Config, backbone: Backbone) -> None:
    limit = backbone.max_positions
    virtual = cfg.prompt.length if prompt_class(cfg.prompt.kind).at_input else 0
    virtual += readout_class(backbone.readout).added
    # It starts from the keys and values that the backbone computes for as many tokens.
    computed = cfg.prompt.kind == "prefix" and cfg.prompt.init != "normal"
    if computed and limit is not None and cfg.prompt.length > limit:
        why = f"must be at most {limit}, the positions of {backbone.name}"
        raise ConfigError("prompt.length", cfg.prompt.length, why)
    lengths = {"data.max_length": cfg.data.max_length, "benchmark.seq_len": cfg.benchmark.seq_len}
    for key, length in lengths.items():
        if limit is None or length + virtual <= limit:
            continue
        raise ConfigError(
            key,
            length,
            f"with prompt.length={cfg.prompt.length} ({cfg.prompt.kind}) it exceeds the "
            f"{limit} positions of {backbone.name}; at most {limit - virtual}",
        )


def _check_readout(cfg: Config, backbone: Backbone) -> None:
    """What it refuses: label words, or a tokenizer without a token between two texts."""
    labels, words = cfg.task.num_labels, tuple(cfg.task.words)
    pooling = cfg.backbone.pooling
    parts = (backbone.readout, backbone.model, backbone.tokenizer)
    build_readout(*parts, labels=labels, words=words, pooling=pooling)


def _check_goal(cfg: Config, backbone: Backbone) -> None:
    """What the backbone's neurons can give; a speed-up is known once the sublayers are timed."""
    blocks = backbone.family.blocks(backbone.model)
    if not blocks:
        raise SkipError(f"backbone={backbone.name}: has no layers")
    prune = cfg.prune
    ratio = 0.0 if prune.goal.ratio is None else prune.goal.ratio
    allocation = "global" if prune.allocation == "latency" else prune.allocation
    allocate.check(shapes(blocks), ratio=ratio, sites=prune.sites, allocation=allocation)
