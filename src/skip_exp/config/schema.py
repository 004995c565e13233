"""Typed schema of the configuration: a misspelt key or a wrong type fails at composition.

Each class is one config group (``conf/<group>/*.yaml``) and the place of its defaults; the field
names are the vocabulary of the whole project. A class checks its own ranges when it is made
(:func:`typed`); what depends on several groups, or on the backbone, is checked in
``job.prepare``. Declarations only: what is computed from them lives where it is used.
"""

import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, OmegaConf

from skip_exp.config.checks import one_of, one_of_or_own, positive, unset, within
from skip_exp.config.names import OPTIONS, PROMPTS, READOUTS
from skip_exp.config.prune import PruneConfig
from skip_exp.config.task import TaskConfig
from skip_exp.errors import ConfigError

TRAIN = ("prompt", "prompt_readout", "bias", "lora", "full")
OWN = TRAIN[2:]  # what trains some of the backbone's weights, which become a model's own
BASELINES = ("bias", "full")  # `tune.train` of models that are never pruned
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")


@dataclass
class BackboneConfig:
    """One frozen pre-trained model."""

    name: str = MISSING
    family: str = MISSING  # bert | roberta | t5
    path: str = MISSING  # hub id, folder, or embedded:NAME
    readout: str = "head"  # head | mlm | seq2seq, or module.Class of your own
    pooling: str = "mean"  # mean (of the text) | cls (its first token): what a head reads
    layers: int | None = None  # only the first ones, of T5's encoder and decoder alike; null: all

    def __post_init__(self) -> None:
        one_of("backbone.pooling", self.pooling, ("mean", "cls"))
        if self.layers is not None:
            positive("backbone", self, layers=1000)
        if unset(self):
            return
        one_of("backbone.family", self.family, tuple(READOUTS))
        every = tuple(dict.fromkeys(name for names in READOUTS.values() for name in names))
        one_of_or_own("backbone.readout", self.readout, every)
        has = READOUTS[self.family]
        if self.readout in every and self.readout not in has:
            why = f"{self.family} has the readouts {', '.join(has)}"
            raise ConfigError("backbone.readout", self.readout, why)

    @property
    def label(self) -> str:
        """What it is called in results: ``minilm``, or ``minilm[3 layers]`` of a part of it."""
        return backbone_label(self.name, self.layers)


def backbone_label(name: str, layers: int | None) -> str:
    """The name of a backbone cut to its first ``layers``."""
    return name if layers is None else f"{name}[{layers} layer{'s' if layers > 1 else ''}]"


@dataclass
class PromptConfig:
    kind: str = MISSING  # input | prefix | none (baselines), or module.Class of your own
    length: int = 16
    init: str = "vocab"  # vocab (tokens of the train rows) | text (the label names)
    decoder: bool = False  # prefix of T5's decoder, too

    def __post_init__(self) -> None:
        one_of("prompt.init", self.init, ("vocab", "text"))
        positive("prompt", self, length=1000)
        if not unset(self):
            one_of_or_own("prompt.kind", self.kind, PROMPTS)


@dataclass
class TrainConfig:
    """Settings of one training phase (`tune` or `retune`)."""

    phase: ClassVar[str] = "tune"
    trains: ClassVar[tuple[str, ...]] = TRAIN

    epochs: int = 8
    lr: float = 2e-2
    readout_lr: float = 1e-3
    batch: int = 32
    weight_decay: float = 0.0
    warmup: float = 0.06  # fraction of all steps
    patience: int = 3  # epochs without a better score on the selection slice
    dropout: bool = False  # whether the frozen backbone's own dropout is active
    # prompt | prompt_readout | bias (biases and norms, too) | lora (bias, and low-rank updates of
    # every linear of the blocks) | full (all weights; tune only)
    train: str = "prompt_readout"
    bias_lr: float = 1e-3  # of the backbone's parameters: biases and norms, or all of them
    lora_lr: float = 1e-3  # of the factors of low-rank updates
    rank: int = 8  # of each update

    def __post_init__(self) -> None:
        positive(self.phase, self, epochs=10**6, batch=10**6, lr=10, patience=10**6, rank=10**4)
        within(self.phase, self, readout_lr=(0, 10), bias_lr=(0, 10), weight_decay=(0, 10))
        within(self.phase, self, lora_lr=(0, 10), warmup=(0, 1))
        one_of(f"{self.phase}.train", self.train, self.trains)


@dataclass
class RetuneConfig(TrainConfig):
    phase: ClassVar[str] = "retune"
    trains: ClassVar[tuple[str, ...]] = TRAIN[:4]

    # It starts from the dense model's prompt on what is left, whose weights may follow.
    enabled: bool = True
    epochs: int = 3
    lr: float = 1e-2
    patience: int = 2
    train: str = "lora"
    bias_lr: float = 3e-3
    distill: float = 0.9  # weight of the dense model's answers in the loss, in [0, 1]
    # Of its layers' text means, beside all else in the loss (see `training.hidden`). 0: none.
    distill_hidden: float = 0.0
    # What re-tuning may cost, in epochs of the dense model: `epochs` and `patience` are multiplied
    # by how often they fit. Nine epochs at 90 % cost 1.14 of one (see `training.length`). 0: never.
    budget: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.distill <= 1:
            raise ConfigError("retune.distill", self.distill, "must be in [0, 1]")
        within("retune", self, distill_hidden=(0, 1000))
        if not 0 <= self.budget < math.inf:
            raise ConfigError("retune.budget", self.budget, "must be at least 0 epochs")


@dataclass
class AttributionConfig:
    _target_: str = MISSING  # function (model, batches, **options) -> relevance
    samples: int = 256  # train rows
    options: dict[str, Any] = field(default_factory=dict)  # of the method: steps, at, norm, ...

    @property
    def name(self) -> str:
        """Of the method: ``skip_exp.attribution.random.scores`` is ``random``."""
        return method_name(self._target_) or "-"

    def __post_init__(self) -> None:
        positive("attribution", self, samples=10**9)
        if self._target_.startswith("skip_exp."):  # a custom method may give them other values
            for name in self.options.keys() & OPTIONS:
                one_of(f"attribution.options.{name}", self.options[name], OPTIONS[name])


def method_name(target: str | None) -> str | None:
    """What an attribution method is called, from its ``_target_``."""
    parts = [part for part in (target or "").split(".") if part != "scores"]
    return parts[-1] or None if parts else None


@dataclass
class DataConfig:
    source: str = "auto"  # auto | local | hub | sample
    dir: str | None = None  # folder of `local`
    max_length: int = 128  # tokens, special tokens included
    # As many of the rows that train, drawn by the seed, for cheap screens; the selection slice and
    # the validation split stay whole. null, or more than there are: all of them.
    train_rows: int | None = None

    def __post_init__(self) -> None:
        one_of("data.source", self.source, ("auto", "local", "hub", "sample"))
        # Below it two special tokens, or the four of a pair, leave no room for a text.
        within("data", self, max_length=(8, 10**6))
        if self.train_rows is not None:
            positive("data", self, train_rows=10**9)


@dataclass
class TrainerConfig:
    accelerator: str = "auto"
    devices: int = 1  # processes of a fit: one GPU each, or the CPU
    precision: str = "auto"  # auto | 32-true | bf16-mixed | 16-mixed
    progress: bool = True

    def __post_init__(self) -> None:
        one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        one_of("trainer.precision", self.precision, ("auto", "32-true", "bf16-mixed", "16-mixed"))
        if self.devices < 1:
            raise ConfigError("trainer.devices", self.devices, "must be at least 1")


@dataclass
class BenchmarkConfig:
    enabled: bool = True
    batch: int = 32
    seq_len: int = 128
    repeats: int = 10

    def __post_init__(self) -> None:
        positive("benchmark", self, batch=10**6, seq_len=10**6, repeats=10**6)


@dataclass
class LoggerConfig:
    name: str = MISSING  # wandb | csv | none
    project: str = "skip_exp"
    entity: str | None = None
    group: str | None = None  # default: the sweep
    tags: list[str] = field(default_factory=list)
    mode: str = "auto"  # auto | online | offline

    def __post_init__(self) -> None:
        if not unset(self):
            one_of("logger.name", self.name, ("wandb", "csv", "none"))
        one_of("logger.mode", self.mode, ("auto", "online", "offline"))


@dataclass
class CacheConfig:
    dir: str | None = "outputs/.cache"


@dataclass
class SweepConfig:
    skip_done: bool = True


@dataclass
class Config:
    task: TaskConfig = field(default_factory=TaskConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tune: TrainConfig = field(default_factory=TrainConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    retune: RetuneConfig = field(default_factory=RetuneConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = 1
    output_dir: str = MISSING  # the job's own folder

    def __post_init__(self) -> None:
        within("", self, seed=(0, 2**32 - 1))


T = TypeVar("T")


def typed(composed: Any, kind: type[T]) -> T:
    """A composed node (DictConfig or mapping) as an object of its class, resolved and checked.

    Raises:
        ConfigError: a value out of its range.
        omegaconf.errors.OmegaConfBaseException: a key that ``kind`` lacks, or a missing value.
    """
    if OmegaConf.is_config(composed):  # as a plain mapping: `+prune.ratoi=1` has added a key
        composed = OmegaConf.to_container(composed, resolve=True)
    return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), composed)))


@cache  # a report composes a hundred jobs; each store would build the whole schema again
def register() -> None:
    """Make known to Hydra the schema (the first entry of conf/config.yaml) and the sweep files."""
    ConfigStore.instance().store(name="schema", node=Config)
    Plugins.instance().register(SweepFiles)


class SweepFiles(SearchPathPlugin):
    """``--config-name table2`` finds the package's sweep file from any folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("sweeps", f"file://{sweep_dir()}")


def conf_dir() -> Path:
    """The folder ``conf``: inside an installed package, beside ``src`` in the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def sweep_dir() -> Path:
    """The folder ``sweeps``, beside ``conf`` in the source tree and in an installed package."""
    return conf_dir().with_name("sweeps")
