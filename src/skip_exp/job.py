"""One job: a resolved configuration turned into data, a backbone, settings and cache keys."""

import hashlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import get_method
from omegaconf import OmegaConf
from torch import Tensor

from skip_exp.cache.store import StageCache
from skip_exp.cache.versions import digest, job_code
from skip_exp.config.schema import AnyConfig
from skip_exp.data.encode import EncodedTask, encode
from skip_exp.data.module import TextDataModule
from skip_exp.data.sources import load_task
from skip_exp.data.spec import TaskSpec, task_spec
from skip_exp.errors import ConfigError, SkipError
from skip_exp.models.backbones import Backbone, first_line, load_backbone
from skip_exp.models.prompts import build_prompt, init_ids
from skip_exp.models.readouts import build_readout
from skip_exp.models.sites import shapes
from skip_exp.models.soft_prompt import SoftPromptModel
from skip_exp.phases.benchmark import BenchmarkSettings
from skip_exp.pruning import goal as budget
from skip_exp.training.length import TrainSettings
from skip_exp.training.trainer import Hardware, resolve_precision

log = logging.getLogger(__name__)

TRAIN = ("prompt", "prompt_readout", "bias", "full")
BASELINES = TRAIN[2:]  # in `tune`: of a size that no skill file should have; never pruned


@dataclass(frozen=True)
class Job:
    """Everything that the phases need; the keys name what each cached stage depends on."""

    cfg: AnyConfig
    output: Path
    data: EncodedTask
    backbone: Backbone
    hardware: Hardware
    tune: TrainSettings
    retune: TrainSettings
    benchmark: BenchmarkSettings
    score: Callable[..., Any]  # the attribution method: (model, batches) -> relevance
    cache: StageCache
    tune_key: dict[str, Any]
    attribution_key: dict[str, Any]
    job_id: str

    @property
    def metric(self) -> str:
        """Name of the task's main metric."""
        return self.data.spec.metrics[0]

    def seed(self, phase: str) -> int:
        """Each phase has a seed of its own, so that a cached phase changes nothing after it."""
        return phase_seed(self.cfg.seed, phase)

    def retune_at(self, ratio: float) -> TrainSettings:
        """Settings of re-tuning after a cut of ``ratio``."""
        return self.retune.after_cut(budget.left(self.cfg.prune, ratio))

    def batches(
        self, settings: TrainSettings, phase: str, teacher: Tensor | None = None
    ) -> TextDataModule:
        return TextDataModule(self.data, settings.batch, self.seed(phase), teacher=teacher)

    def new_model(self) -> SoftPromptModel:
        """The backbone with a fresh prompt and readout."""
        prompt, b, spec = self.cfg.prompt, self.backbone, self.data.spec
        seed = self.seed("init")
        L.seed_everything(seed, verbose=False)
        soft = build_prompt(
            prompt.kind,
            b.model,
            b.family,
            length=prompt.length,
            ids=init_ids(prompt.init, b.tokenizer, prompt.length, seed, " ".join(spec.labels)),
            std=prompt.std,
            seed=seed,
            decoder=prompt.decoder,
        )
        readout = build_readout(
            b.readout,
            b.model,
            b.tokenizer,
            labels=spec.num_labels,
            words=spec.words,
            pooling=self.cfg.backbone.pooling,
        )
        model = SoftPromptModel(b.model, b.family, soft, readout)
        if self.cfg.tune.train in BASELINES:  # others share this backbone
            model = model.copy()
        model.train_only(self.cfg.tune.train)
        return model


def phase_seed(seed: int, phase: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{phase}".encode()).digest()[:4], "big")


def prepare(cfg: AnyConfig) -> Job:
    """Build a job and refuse everything that can be refused before any work is spent."""
    _check(cfg)
    spec = task_spec(cfg.task)
    b = cfg.backbone
    backbone = load_backbone(b.name, b.path, b.family, b.readout)
    _check_length(cfg, backbone)
    _check_budget(cfg, backbone)
    hardware = _hardware(cfg.trainer)
    data = _data(spec, cfg, backbone)
    log.info(
        "%s: %d train, %d select, %d validation rows from %s",
        *(spec.name, len(data.train), len(data.select), len(data.validation), data.source),
    )
    if data.is_sample:
        log.warning(
            "%s: GENERATED SAMPLE DATA, not the real task: no score means anything for it",
            spec.name,
        )
    tune_key = _tune_key(cfg, data, backbone, hardware.precision)
    attribution_key = tune_key | {"attribution": _plain(cfg.attribution)}
    identity = attribution_key | {
        "prune": _plain(cfg.prune) | {"ratio": budget.ratio(cfg.prune)},
        "retune": _plain(cfg.retune),
        "benchmark": _plain(cfg.benchmark),
        "code": job_code(),
    }
    return Job(
        cfg=cfg,
        output=Path(cfg.output_dir),
        data=data,
        backbone=backbone,
        hardware=hardware,
        tune=TrainSettings(**_plain(cfg.tune)),
        retune=TrainSettings(**_plain(cfg.retune)),
        benchmark=BenchmarkSettings(**_plain(cfg.benchmark)),
        score=_method(cfg.attribution, phase_seed(cfg.seed, "attribute")),
        cache=StageCache(Path(cfg.cache.dir) if cfg.cache.enabled else None),
        tune_key=tune_key,
        attribution_key=attribution_key,
        job_id=digest(identity)[:16],
    )


def _tune_key(
    cfg: AnyConfig, data: EncodedTask, backbone: Backbone, precision: str
) -> dict[str, Any]:
    """What the tuned prompt depends on: never the ratio, the logger, the device or a path."""
    spec, b = data.spec, cfg.backbone
    return {
        "data": [data.fingerprint, spec.name, cfg.data.max_length, list(spec.text)],
        "metrics": list(spec.metrics),
        "labels": list(spec.labels),
        "backbone": [backbone.content_hash, b.family, b.readout, b.pooling, list(spec.words)],
        "prompt": _plain(cfg.prompt),
        "tune": _plain(cfg.tune),
        "seed": cfg.seed,
        "precision": precision,
    }


_loaded: dict[str, EncodedTask] = {}  # tokenised data, once per process; the last few tasks


def _data(spec: TaskSpec, cfg: AnyConfig, backbone: Backbone) -> EncodedTask:
    """The task's rows as token ids; only an embedded backbone may end on generated data."""
    source, folder, length = cfg.data.source, cfg.data.dir, cfg.data.max_length
    key = digest([asdict(spec), source, folder, length, backbone.content_hash])
    if key not in _loaded:
        embedded = backbone.path.startswith("embedded:")
        if source == "sample" and not embedded:
            raise ConfigError(
                "data.source", source, "generated data goes with an embedded backbone only"
            )
        raw = load_task(spec, source, folder, allow_sample=embedded)
        while len(_loaded) >= 4:
            _loaded.pop(next(iter(_loaded)))
        _loaded[key] = encode(raw, backbone.tokenizer, length)
    return _loaded[key]


def _plain(node: AnyConfig) -> Any:
    return OmegaConf.to_container(node, resolve=True)


def _hardware(trainer: AnyConfig) -> Hardware:
    allowed = ("auto", "32-true", "bf16-mixed", "16-mixed")
    if trainer.precision not in allowed:
        raise ConfigError(
            "trainer.precision", trainer.precision, f"must be one of {', '.join(allowed)}"
        )
    return Hardware(
        trainer.accelerator,
        trainer.devices,
        resolve_precision(trainer.precision, trainer.accelerator),
        trainer.progress,
    )


def _method(settings: AnyConfig, seed: int) -> Callable[..., Any]:
    """The attribution method with its options, and the seed where it draws at random."""
    target = settings._target_
    try:
        method = get_method(target)
    except Exception as error:  # Hydra wraps whatever the import raised
        why = first_line(error)
        raise ConfigError("attribution._target_", target, f"cannot be imported: {why}") from error
    known = inspect.signature(method).parameters
    given = {key: settings[key] for key in ("tokens", "sign", "target")}
    named = {
        key: (f"attribution.{key}", value) for key, value in given.items() if value is not None
    }
    for key, value in settings.options.items():
        named[key] = (f"attribution.options.{key}", value)
    for key, (name, value) in named.items():
        if key not in known:
            raise ConfigError(name, value, f"{target} has no such option")
    options = {key: value for key, (_, value) in named.items()}
    return partial(method, **options | ({"seed": seed} if "seed" in known else {}))


def _check(cfg: AnyConfig) -> None:
    if cfg.prompt.kind not in ("input", "prefix", "none"):
        raise ConfigError("prompt.kind", cfg.prompt.kind, "must be input, prefix or none")
    if cfg.prompt.init not in ("vocab", "text", "normal"):
        raise ConfigError("prompt.init", cfg.prompt.init, "must be vocab, text or normal")
    positive = ["prompt.length", "data.max_length", "attribution.samples", "attribution.batch"]
    positive += [f"{p}.{key}" for p in ("tune", "retune") for key in ("epochs", "batch", "lr")]
    positive += [f"benchmark.{key}" for key in ("batch", "seq_len", "repeats")]
    for key in positive:
        if OmegaConf.select(cfg, key) <= 0:
            raise ConfigError(key, OmegaConf.select(cfg, key), "must be positive")
    for phase, allowed in (("tune", TRAIN), ("retune", TRAIN[:3])):
        if cfg[phase].train not in allowed:
            raise ConfigError(
                f"{phase}.train", cfg[phase].train, f"must be one of {', '.join(allowed)}"
            )
    if cfg.tune.train in BASELINES and (cfg.prune.ratio != 0 or cfg.retune.enabled):
        raise ConfigError(
            *("tune.train", cfg.tune.train),
            "a baseline of its own size: needs prune.ratio=0 retune.enabled=false",
        )
    if cfg.prompt.kind == "none" and "prompt" in (cfg.tune.train, cfg.retune.train):
        raise ConfigError("prompt.kind", "none", "leaves nothing to train with train=prompt")
    if not cfg.tune.enabled:
        raise ConfigError("tune.enabled", False, "there is nothing to prune without a tuned prompt")


def _check_length(cfg: AnyConfig, backbone: Backbone) -> None:
    limit = backbone.max_positions
    virtual = cfg.prompt.length if cfg.prompt.kind == "input" else 0
    virtual += backbone.readout == "mlm"  # its [MASK]
    for key in ("data.max_length", "benchmark.seq_len"):
        length = OmegaConf.select(cfg, key)
        if limit is None or length + virtual <= limit:
            continue
        raise ConfigError(
            key,
            length,
            f"with prompt.length={cfg.prompt.length} ({cfg.prompt.kind}) it exceeds the "
            f"{limit} positions of {backbone.name}; at most {limit - virtual}",
        )


def _check_budget(cfg: AnyConfig, backbone: Backbone) -> None:
    blocks = backbone.family.blocks(backbone.model)
    if not blocks:
        raise SkipError(f"backbone={backbone.name}: has no layers")
    budget.check(cfg.prune, cfg.retune, shapes(blocks))
