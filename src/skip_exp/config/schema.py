"""Typed schema of the configuration: a misspelt key or a wrong type fails at composition.

Each class is one config group (``conf/<group>/*.yaml``) and the one place of its defaults. A class
checks its own ranges when :func:`to_object` makes it. ``config.together`` checks several groups
together, and ``phases.prepare`` what depends on the backbone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import MISSING, DictConfig, OmegaConf

from skip_exp.config.checks import (
    OBJECTIVES,
    PROMPTS,
    READOUTS,
    Group,
    key,
    method_options,
    one_of,
    require,
)
from skip_exp.config.groups import PruneConfig, RetuneConfig, TaskConfig, TuneConfig, name_goal
from skip_exp.errors import ConfigError

WANDB_PROJECT = "skip_exp"  # unless logger.project or the environment names another

# Hydra 1.3 with OmegaConf 2.3, and 1.4 with 2.4, name the same things otherwise.
_IS_OLD = hydra.__version__.startswith("1.3.")
# For initialize_config_dir: 1.3 warns where it is not named, 1.4 where it is.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if _IS_OLD else {}
register_resolver: Any = OmegaConf.register_new_resolver if _IS_OLD else OmegaConf.register_resolver

# ``${goal:}``, at import: a launcher's worker composes its job's configuration before it runs it.
register_resolver("goal", lambda _root_: name_goal(_root_.prune), replace=True)


@dataclass
class BackboneConfig(Group):
    name: str = key(MISSING, "Name in results and folders.")
    family: str = key(MISSING, f"One of {', '.join(READOUTS)}.", choices=tuple(READOUTS))
    path: str = key(MISSING, "Hub id, folder, or `embedded:NAME`.")
    readout: str = key("head", "Where logits come from: head, mlm, seq2seq or classifier.")
    pooling: str = key(
        "mean",
        "What a head reads: mean (of the text) or cls (the first token).",
        choices=("mean", "cls"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family != MISSING:
            one_of("backbone.readout", self.readout, READOUTS[self.family])


@dataclass
class PromptConfig(Group):
    kind: str = key(MISSING, "input, prefix or none.", choices=PROMPTS)
    length: int = key(
        16, "Number of tokens of a new prompt; a start brings its own.", bounds=(1, 1000)
    )
    init: str = key(
        "silent",
        "What a new prompt starts from: vocab (tokens of train rows), or silent (these, and the "
        "values of a prefix are zero).",
        choices=("vocab", "silent"),
    )


@dataclass
class AttributionConfig(Group):
    _target_: str = key(MISSING, "Function (model, batches, **options) -> relevance.")
    samples: int = key(256, "Number of train rows that are scored.", bounds=(1, 10**9))
    options: dict[str, Any] = key(dict, "Arguments of the function: see `conf/attribution/*.yaml`.")

    @property
    def name(self) -> str:
        """Name of the method: ``skip_exp.attribution.random.scores`` is ``random``."""
        return method_name(self._target_) or "-"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._target_.startswith("skip_exp."):  # a custom method checks its own
            method_options(**self.options)


def method_name(target: str | None) -> str | None:
    """The name of an attribution method: of the package's own short, of a custom one in full."""
    prefix = "skip_exp.attribution."
    if target and target.startswith(prefix):
        return target.removeprefix(prefix).removesuffix(".scores")
    return target or None


@dataclass
class DataConfig(Group):
    source: str = key(
        "auto",
        "auto, local, hub, or embedded (rows of the package).",
        choices=("auto", "local", "hub", "embedded"),
    )
    dir: str | None = key(None, "Folder of local data; conf/config.yaml sets SKIP_EXP_DATA.")
    # Below 8, the special tokens of a pair leave no room for its texts.
    max_length: int = key(
        128,
        "Tokens of a text, special tokens included; the rest is cut off.",
        bounds=(8, 100_000),
    )
    train_rows: int | None = key(
        None,
        "Train on this many rows, slice included, drawn by the seed; null: all.",
        bounds=(1, 10**9),
    )
    deduplicate: bool = key(
        False, "Drop train rows that are also select rows, and those of both that are scored."
    )
    drop_bad: bool = key(False, "Leave out rows with an empty text or an unknown label.")
    sep: str | None = key(
        None,
        "Character between the columns of a CSV file, such as `;` or `\\t`; null: a tab in a .tsv, "
        "else comma, semicolon or tab, as the header line has them.",
    )
    encoding: str = key("utf-8", "Encoding of text files; a mark, as UTF-16 has it, counts more.")

    def __post_init__(self) -> None:
        super().__post_init__()
        sep = self.sep
        require(
            sep in (None, "\\t") or (len(str(sep)) == 1 and str(sep) not in '"\r\n\0'),
            "data.sep",
            sep,
            "must be one character, such as ';', or \\t for a tab",
        )
        try:
            "a".encode(self.encoding)
        except (LookupError, ValueError) as error:
            allowed = "must be an encoding of Python's, such as utf-8, latin-1 or cp1252"
            raise ConfigError("data.encoding", self.encoding, allowed) from error


@dataclass
class TrainerConfig(Group):
    accelerator: str = key(
        "auto", "auto, cpu, gpu or cuda.", choices=("auto", "cpu", "gpu", "cuda")
    )
    precision: str = key(
        "auto",
        "auto, 32-true, bf16-mixed or 16-mixed.",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    progress: bool = key(True, "Show a line per epoch.")


@dataclass
class BenchmarkConfig(Group):
    enabled: bool = key(True, "Time the dense and the final model.")
    batch: int = key(32, "Texts per timed batch.", bounds=(1, 10**6))
    seq_len: int = key(128, "Tokens per timed text.", bounds=(1, 10**6))
    repeats: int = key(10, "Timed passes of each model.", bounds=(1, 10**6))


@dataclass
class LoggerConfig(Group):
    name: str = key(MISSING, "wandb, csv or none.", choices=("wandb", "csv", "none"))
    project: str | None = key(None, "W&B project; null: WANDB_PROJECT, else skip_exp.")
    entity: str | None = key(None, "W&B entity; null: your default.")
    group: str | None = key(None, "W&B group; null: the sweep.")
    tags: list[str] = key(list, "Further tags of the W&B run.")
    notes: str | None = key(None, "Notes of the W&B run.")


@dataclass
class CacheConfig:
    dir: str | None = key("outputs/.cache", "Folder of cached stages; null switches the cache off.")


@dataclass
class SweepConfig:
    skip_done: bool = key(True, "Reuse the results of jobs that are done already.")
    id: str | None = key(None, "Name of the sweep in results; null: by its command.")
    objective: Any = key(
        "select/final", f"What a search aims at, one or a list: {', '.join(OBJECTIVES)}."
    )

    def __post_init__(self) -> None:
        for name in list_objectives(self.objective):
            one_of("sweep.objective", name, OBJECTIVES)


def list_objectives(objective: Any) -> list[Any]:
    """What a job returns, in order, of the key ``sweep.objective``; nothing for ``null``."""
    if isinstance(objective, Sequence) and not isinstance(objective, str):
        return list(objective)
    return [] if objective is None else [objective]


@dataclass
class Config(Group):
    task: TaskConfig = key(TaskConfig, "The classification task, its rows and labels.")
    backbone: BackboneConfig = key(BackboneConfig, "The pre-trained model.")
    prompt: PromptConfig = key(PromptConfig, "The soft prompt, its place and length.")
    tune: TuneConfig = key(TuneConfig, "Training of the dense model.")
    attribution: AttributionConfig = key(AttributionConfig, "How the neurons' relevance is scored.")
    prune: PruneConfig = key(PruneConfig, "How much is pruned, and which neurons.")
    retune: RetuneConfig = key(RetuneConfig, "Training of the pruned model.")
    benchmark: BenchmarkConfig = key(BenchmarkConfig, "Timing of the dense and the final model.")
    data: DataConfig = key(DataConfig, "Where the rows come from, and how many.")
    trainer: TrainerConfig = key(TrainerConfig, "The hardware and the precision of training.")
    logger: LoggerConfig = key(LoggerConfig, "Where curves and scores are shown.")
    cache: CacheConfig = key(CacheConfig, "Stages that several jobs share.")
    sweep: SweepConfig = key(SweepConfig, "How sweeps treat finished jobs.")
    seed: int = key(
        1,
        "Seed of the prompt's start, the batches, drawn rows and random scores.",
        bounds=(0, 2**32 - 1),
    )
    output_dir: str = key(MISSING, "Folder of the job; Hydra sets it.")

    @property
    def label(self) -> str:
        """The job's name in W&B: task, backbone, what is pruned, seed."""
        return f"{self.task.name}-{self.backbone.name}-{name_goal(vars(self.prune))}-{self.seed}"


T = TypeVar("T")


def to_object(composed: Any, kind: type[T]) -> T:
    """A composed node (DictConfig or mapping) as an object of its class, resolved and checked.

    Raises:
        ConfigError: a value out of its range.
        omegaconf.errors.OmegaConfBaseException: a key that ``kind`` lacks, or a missing value.
    """
    if OmegaConf.is_config(composed):  # as a plain mapping: `+prune.ratoi=1` has added a key
        composed = OmegaConf.to_container(composed, resolve=True)
    return cast(T, OmegaConf.to_object(OmegaConf.merge(_build_schema(cast(Any, kind)), composed)))


@cache  # a quarter of the time; merging copies it
def _build_schema(kind: type) -> DictConfig:
    return cast(DictConfig, OmegaConf.structured(kind))


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
