"""Typed schema of the configuration: a misspelt key or a wrong type fails at composition.

Each class is one config group (``conf/<group>/*.yaml``); the field names are the vocabulary of the
whole project. Values that need more than a type (ranges, combinations) are checked where they are
used and refused with :class:`skip_exp.errors.ConfigError`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class TaskConfig:
    """One classification task: where its rows are and what they mean."""

    name: str = MISSING
    hub: dict[str, str] = field(default_factory=dict)  # {path, name}: arguments of load_dataset
    files: dict[str, str] = field(default_factory=dict)  # {split: file}: a task of the user's own
    text: list[str] = MISSING  # one or two column names, or templates such as "{word}: {sentence1}"
    label: str = "label"  # column of integer labels, or of the names in `labels`
    labels: list[str] = MISSING  # names, in label order
    words: list[str] = field(default_factory=list)  # label words for the mlm and seq2seq readouts
    metrics: list[str] = MISSING  # accuracy | f1 | f1_macro | matthews; the first is the main one
    train: str = "train"  # split names
    validation: str = "validation"
    extra: list[str] = field(default_factory=list)  # further splits scored in `test`


@dataclass
class BackboneConfig:
    """One frozen pre-trained model."""

    name: str = MISSING
    family: str = MISSING  # bert | roberta | t5
    path: str = MISSING  # hub id, folder, or embedded:NAME
    readout: str = "head"  # head | mlm | seq2seq
    pooling: str = "mean"  # mean | cls: what the head readout reads


@dataclass
class PromptConfig:
    kind: str = MISSING  # input | prefix | none (baselines)
    length: int = 16
    init: str = "vocab"  # vocab (random word embeddings) | text (the label names) | normal
    std: float = 0.02  # of `normal`
    decoder: bool = False  # prefix of T5's decoder, too


@dataclass
class TrainConfig:
    """Settings of one training phase (`tune` or `retune`)."""

    enabled: bool = True
    epochs: int = 8
    lr: float = 2e-2
    readout_lr: float = 1e-3
    batch: int = 32
    weight_decay: float = 0.0
    warmup: float = 0.06  # fraction of all steps
    clip: float = 1.0  # gradient norm
    patience: int = 3  # epochs without a better score on the selection slice
    dropout: bool = False  # whether the frozen backbone's own dropout is active
    # prompt | prompt_readout | bias (biases and norms, too) | full (all weights; tune only)
    train: str = "prompt_readout"
    bias_lr: float = 1e-3  # of what `bias` and `full` train beside prompt and readout


@dataclass
class RetuneConfig(TrainConfig):
    # A warm start: the dense model's prompt on what is left, whose biases and norms may follow.
    epochs: int = 3
    lr: float = 1e-2
    patience: int = 2
    train: str = "bias"
    bias_lr: float = 3e-3
    init: str = "warm"  # warm | scratch: prompt and readout anew
    distill: float = 0.5  # weight of the dense model's answers in the loss, in [0, 1]
    # What re-tuning may cost, in epochs of the dense model: `epochs` and `patience` are multiplied
    # by how often they fit. Three epochs at 70 % cost 0.9 of one; at 90 % that is nine. 0: never.
    budget: float = 0.9


@dataclass
class AttributionConfig:
    _target_: str = MISSING  # function (model, batches, **options) -> relevance
    samples: int = 256  # train rows
    batch: int = 32
    # Options of the function; null = not one of its arguments.
    tokens: str | None = None  # max | mean | sum
    sign: str | None = None  # signed | absolute
    target: str | None = None  # probability | log_probability
    options: dict[str, Any] = field(default_factory=dict)  # of the method: steps, at, norm, ...


@dataclass
class PruneConfig:
    # Fraction of block parameters to remove, in [0, 1), or `auto`: as large as max_drop allows.
    ratio: Any = 0.5
    max_drop: float | None = None  # of `auto`: points of the main metric, on the selection slice
    sites: list[str] = field(default_factory=lambda: ["ffn", "heads"])
    allocation: str = "global"  # global | uniform | per_cost | latency
    round_to: int = 8  # FFN widths are multiples of this
    target_speedup: float | None = None  # takes the place of `ratio`
    steps: int = 1  # of equal size, each after an attribution of what the last one left
    step_epochs: int = 0  # of re-tuning between two steps
    reconstruct: str = "none"  # none | mean | least_squares: what makes up for what was cut
    rank: int = 8  # of least_squares: of the change of each weight


@dataclass
class DataConfig:
    source: str = "auto"  # auto | local | hub | sample
    dir: str | None = None  # folder of `local`
    max_length: int = 128  # tokens, special tokens included


@dataclass
class TrainerConfig:
    accelerator: str = "auto"
    devices: int = 1  # processes of a fit: one GPU each, or the CPU
    precision: str = "auto"  # auto | 32-true | bf16-mixed | 16-mixed
    progress: bool = True


@dataclass
class BenchmarkConfig:
    enabled: bool = True
    batch: int = 32
    seq_len: int = 128
    repeats: int = 10
    warmup: int = 3


@dataclass
class LoggerConfig:
    name: str = MISSING  # wandb | csv | none
    project: str = "skip_exp"
    entity: str | None = None
    group: str | None = None  # default: the sweep
    tags: list[str] = field(default_factory=list)
    mode: str = "auto"  # auto | online | offline


@dataclass
class CacheConfig:
    enabled: bool = True
    dir: str = "outputs/.cache"


@dataclass
class SweepConfig:
    skip_done: bool = True
    # Of a sweep file whose results `python -m skip_exp.report.ablations` compares:
    question: str | None = None  # what it asks
    factor: list[str] = field(default_factory=list)  # the swept keys that are compared


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
    debug: bool = False  # tracebacks instead of one line


def register() -> None:
    """Make the schema known to Hydra as ``schema`` (the first entry of conf/config.yaml)."""
    ConfigStore.instance().store(name="schema", node=Config)


def conf_dir() -> Path:
    """The folder ``conf``: inside an installed package, beside ``src`` in the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


AnyConfig = Any  # a composed DictConfig that follows `Config`
