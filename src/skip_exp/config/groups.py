"""The config groups of the task and of the phases: ``task``, ``tune``, ``prune`` and ``retune``.

The defaults of training are the recipe ``skip``, in which no weight of the backbone changes;
``conf/experiment/*.yaml`` hold the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from unicodedata import category

from omegaconf import MISSING

from skip_exp.config.checks import ALLOCATIONS, KINDS, Group, key, one_of, require
from skip_exp.outcomes.registry import OUTCOMES, Outcome

_QUOTES = (
    "must be texts; without quotes YAML reads yes, no, on, off, true, false and null as values "
    'and 1, 2, 3 as numbers: write "yes", "no" or "1", "2"'
)


# Characters that break a line or a record: controls, separators of lines and paragraphs, and lone
# surrogates, such as half of an emoji that was cut.
_UNPRINTED = {"Cc", "Zl", "Zp", "Cs"}


@dataclass
class TaskConfig(Group):
    name: str = key(MISSING, "Name in results and folders.")
    hub: dict[str, str] = key(dict, "Hub data set: {path, name}, arguments of load_dataset.")
    files: dict[str, str] = key(dict, "Own files: {train, validation, select}; train is enough.")
    text: list[str] = key(MISSING, 'One or two columns, or templates such as "{word}: {context}".')
    label: str = key(
        "label",
        "Column of the label: its index, or its name in `labels`. With many_labels: a list of "
        "them, or names joined by `;`, `|` or `,`; empty: a column of 0 and 1 per label.",
    )
    # Any, because a list of str would silently turn an unquoted yes into the text "True".
    labels: list[Any] = key(MISSING, "Label names, in the order of their indices.")
    words: list[Any] = key(list, "A word per label, for mlm and seq2seq; default: the labels.")
    metrics: list[str] = key(
        MISSING,
        "accuracy, f1, f1_macro or matthews; with many_labels f1_micro, f1_macro or "
        "average_precision. The first is the main.",
    )
    kind: str = key(
        "one_label",
        "one_label, or many_labels: any number per text, each with a yes or no of its own.",
        choices=tuple(OUTCOMES),
    )
    train: str = key("train", "Split to train on.")
    validation: str = key("validation", "Split whose scores are reported.")
    extra: list[str] = key(list, "Further splits to score.")
    start: str | None = key(None, "Skill of the package that tuning starts from where it fits.")
    group: str | None = key(None, "Column whose equal values stay on one side of a made split.")

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES[self.kind]

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    @property
    def label_columns(self) -> list[str]:
        """The column of the label, or a column of 0 and 1 for each."""
        return [self.label] if self.label else list(self.labels)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are read, in reading order."""
        return (self.train, self.validation, *self.extra)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == MISSING:  # the schema itself
            return
        text = self.text
        labels = self.labels
        words = self.words
        known = self.outcome.metrics
        require(
            len(text) in (1, 2) and all(text) and len(set(text)) == len(text),
            "task.text",
            text,
            "must be one column or template, or two different ones, none of them empty",
        )
        for name, values in (("task.labels", labels), ("task.words", words)):
            require(all(isinstance(value, str) for value in values), name, values, _QUOTES)
            is_odd = any(category(character) in _UNPRINTED for character in "".join(values))
            require(not is_odd, name, ascii(values), "control characters, or half of a character")
        require(
            len(labels) > 1 and all(labels) and len(set(labels)) == len(labels),
            "task.labels",
            labels,
            "two or more different names, none empty",
        )
        require(
            not words or len(words) == len(labels),
            "task.words",
            words,
            f"one per label of {labels}",
        )
        require(
            bool(self.label) or not self.outcome.is_exclusive,
            "task.label",
            "",
            "a column of the label; only many_labels has several",
        )
        require(
            bool(self.metrics) and set(known).issuperset(self.metrics),
            "task.metrics",
            self.metrics,
            f"one or more of {', '.join(known)}",
        )
        require(
            "f1" not in self.metrics or len(labels) == 2,
            "task.metrics",
            "f1",
            "needs exactly two labels; use f1_macro",
        )
        for split in (self.validation, *self.extra):
            require(
                self.splits.count(split) == 1,
                "task.validation" if split == self.validation else "task.extra",
                split,
                "every split counts once: what trains is not scored",
            )
        for split in self.files:
            one_of("task.files", split, (*self.splits, "select"))
        require(
            not self.hub or {"path"} <= self.hub.keys() <= {"path", "name"},
            "task.hub",
            self.hub,
            "path, and name if there are configurations",
        )


TRAIN = ("none", "prompt", "prompt_readout", "bias", "gates", "lora", "layers", "full")
OWN_WEIGHTS = TRAIN[3:]  # these train weights of the backbone, so the model needs a copy of it
RATE = (0, 10)  # bounds of a learning rate
RANK = (1, 10**4)


@dataclass
class TrainConfig(Group):
    phase: ClassVar[str] = "tune"

    epochs: int = key(
        8, "Number of epochs; more where `min_steps` asks for them.", bounds=(0, 10**6)
    )
    min_steps: int = key(
        300, "Optimizer steps at least: few rows get more epochs.", bounds=(0, 10**9)
    )
    lr: float = key(2e-2, "Learning rate of the prompt.", bounds=(1e-9, 10))
    readout_lr: float = key(1e-3, "Learning rate of the readout.", bounds=RATE)
    batch: int = key(32, "Texts per step.", bounds=(1, 10**6))
    weight_decay: float = key(0.0, "Weight decay of AdamW.", bounds=(0, 10))
    warmup: float = key(
        0.06, "Fraction of all steps in which the learning rate rises.", bounds=(0, 1)
    )
    dropout: bool = key(False, "Keep the backbone's own dropout active.")
    train: str = key(
        "gates",
        "none, prompt, prompt_readout, bias (also biases and norms), gates (bias, and a factor on "
        "each neuron), lora (bias, and low-rank updates of the block linears), layers (all weights "
        "but embeddings) or full (all).",
        choices=TRAIN,
    )
    bias_lr: float = key(
        1e-3,
        "Learning rate of the backbone's biases and norms with train=bias, gates and lora.",
        bounds=RATE,
    )
    gate_lr: float = key(3e-3, "Learning rate of the gates.", bounds=RATE)
    lora_lr: float = key(1e-3, "Learning rate of the factors of low-rank updates.", bounds=RATE)
    full_lr: float = key(
        1e-4, "Learning rate of the backbone's weights with train=layers and full.", bounds=RATE
    )
    rank: int = key(8, "Rank of each low-rank update.", bounds=RANK)
    contrast: float = key(
        0.0,
        "Weight of the supervised contrastive loss, with a head and where `batch` has four texts "
        "or more per label.",
        bounds=(0, 100),
    )


@dataclass
class TuneConfig(TrainConfig):
    start: str | None = key(
        "${task.start}",
        "Dense skill to start from: folder, hub id, or one of the package; null: a new start. The "
        "task's own is taken where it fits, any other must fit. With `epochs=0` it stays as it is.",
    )

    @property
    def is_given(self) -> bool:
        """Whether nothing is tuned: the dense model is a classifier or a skill, as it is."""
        return self.train == "none" or not self.epochs


@dataclass
class RetuneConfig(TrainConfig):
    phase: ClassVar[str] = "retune"

    epochs: int = key(
        3, "Number of epochs; more where `min_steps` or `budget` asks for them.", bounds=(1, 10**6)
    )
    min_steps: int = key(
        200, "Optimizer steps at least: few rows get more epochs.", bounds=(0, 10**9)
    )
    budget: float = key(
        4.0,
        "Cost in dense epochs, which a cheaper model may use up by more epochs; 0: no more.",
        bounds=(0, 10**6),
    )
    enabled: bool = key(True, "Train the pruned model again, from the dense model's weights.")
    train: str = key(
        "${tune.train}", "As in tune, but not none; it follows tune.train.", choices=TRAIN
    )
    bias_lr: float = key(
        3e-3,
        "Learning rate of the backbone's biases and norms with train=bias, gates and lora.",
        bounds=RATE,
    )
    full_lr: float = key(
        3e-4, "Learning rate of the backbone's weights with train=layers and full.", bounds=RATE
    )
    rank: int = key("${tune.rank}", "Rank of each low-rank update: that of tune.", bounds=RANK)
    distill: float = key(
        0.9,
        "Weight of the dense model's predictions in the loss of a labelled text, in [0, 1].",
        bounds=(0, 1),
    )
    copies: int = key(
        4,
        "Versions of each train text with near words in place of some, labelled by the dense "
        "model; an epoch has one of them, or the text.",
        bounds=(0, 20),
    )


DIGITS = 6  # of a ratio that count: a range of Hydra's has 0.7000000000000001
FASTEST = ("one", "batches")
MISSED = 0.02  # a job that ends further from its ratio warns; in block parameters


@dataclass
class PruneConfig(Group):
    ratio: float = key(0.5, "Fraction of the block parameters to remove.")
    within: float | None = key(
        None,
        "Instead of a ratio: find the fastest model that loses at most so many points.",
        bounds=(0, 100),
    )
    fastest: str = key(
        "one",
        "What `within` makes fast: `one` text on one thread, or `batches` on all threads.",
        choices=FASTEST,
    )
    sites: list[str] = key(lambda: ["ffn", "heads"], f"What is pruned: some of {', '.join(KINDS)}.")
    allocation: str = key("global", "global or uniform over layers, or a custom module.function.")
    round_to: int = key(
        8, "Step in which FFN units go: widths stay multiples of it.", bounds=(1, 10**6)
    )
    layers: int | None = key(
        None,
        "Remove whole layers after this many, in T5's decoder too, then cut to the ratio.",
        bounds=(1, 1000),
    )

    @property
    def given_ratio(self) -> float | None:
        """The fraction to remove; None where a job finds its own."""
        return None if self.within is not None else self.ratio

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ratio = round(self.ratio, DIGITS)
        require(0 <= self.ratio < 1, "prune.ratio", self.ratio, "must be in [0, 1)")
        # A custom function is looked up when its job starts: an import may take seconds.
        if "." not in self.allocation:
            one_of("prune.allocation", self.allocation, (*ALLOCATIONS, "a custom module.function"))
        require(
            bool(self.sites) and set(KINDS).issuperset(self.sites),
            "prune.sites",
            self.sites,
            f"must be some of {', '.join(KINDS)}",
        )


def name_goal(prune: Mapping[str, Any]) -> str:
    """``0.5``, ``within1`` or ``0.9-3layers``: the goal in names of folders.

    The settings are not yet checked.
    """
    kind = "ratio" if prune.get("within") is None else "within"
    value = f"{prune[kind]:g}" if isinstance(prune[kind], float) else prune[kind]
    goal = f"within{value}" if kind == "within" else f"{value}"
    layers = prune.get("layers")
    return goal if layers is None else f"{goal}-{layers}layers"
