"""The config groups ``tune`` and ``retune``: what is trained, how long, and at which rates.

The defaults are the recipe ``skip``, in which no weight of the backbone changes;
``conf/experiment/*.yaml`` hold the others.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from skip_exp.config.checks import key, one_of, positive, unset, within
from skip_exp.errors import ConfigError

TRAIN = ("none", "prompt", "prompt_readout", "bias", "lora", "layers", "full")
OWN_WEIGHTS = TRAIN[3:]  # these train weights of the backbone, so the model needs a copy of it


@dataclass
class TrainConfig:
    phase: ClassVar[str] = "tune"
    fewest: ClassVar[int] = 1  # epochs

    epochs: int = key(8, "Number of epochs; more where `min_steps` asks for them.")
    min_steps: int = key(300, "Optimizer steps at least: few rows get more epochs.")
    lr: float = key(2e-2, "Learning rate of the prompt.")
    readout_lr: float = key(1e-3, "Learning rate of the readout.")
    batch: int = key(32, "Texts per step.")
    weight_decay: float = key(0.0, "Weight decay of AdamW.")
    warmup: float = key(0.06, "Fraction of all steps in which the learning rate rises.")
    dropout: bool = key(False, "Keep the backbone's own dropout active.")
    train: str = key(
        "prompt_readout",
        "none, prompt, prompt_readout, bias (also biases and norms), lora (bias, and low-rank "
        "updates of the block linears), layers (all weights but embeddings) or full (all).",
    )
    bias_lr: float = key(
        1e-3, "Learning rate of the backbone's biases and norms with train=bias and lora."
    )
    lora_lr: float = key(1e-3, "Learning rate of the factors of low-rank updates.")
    full_lr: float = key(
        1e-4, "Learning rate of the backbone's weights with train=layers and full."
    )
    rank: int = key(8, "Rank of each low-rank update.")

    def __post_init__(self) -> None:
        if unset(self):
            return
        positive(self.phase, self, lr=10, batch=10**6, rank=10**4)
        within(self.phase, self, epochs=(self.fewest, 10**6), min_steps=(0, 10**9))
        within(self.phase, self, warmup=(0, 1), weight_decay=(0, 10))
        within(self.phase, self, readout_lr=(0, 10), bias_lr=(0, 10))
        within(self.phase, self, lora_lr=(0, 10), full_lr=(0, 10))
        one_of(f"{self.phase}.train", self.train, TRAIN)


@dataclass
class TuneConfig(TrainConfig):
    fewest: ClassVar[int] = 0  # which takes a start as it is

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

    epochs: int = key(3, "Number of epochs; more where `min_steps` or `budget` asks for them.")
    min_steps: int = key(200, "Optimizer steps at least: few rows get more epochs.")
    budget: float = key(
        4.0, "Cost in dense epochs, which a cheaper model may use up by more epochs; 0: no more."
    )
    enabled: bool = key(True, "Train the pruned model again, from the dense model's weights.")
    train: str = key("${tune.train}", "As in tune, but not none; it follows tune.train.")
    bias_lr: float = key(
        3e-3, "Learning rate of the backbone's biases and norms with train=bias and lora."
    )
    full_lr: float = key(
        3e-4, "Learning rate of the backbone's weights with train=layers and full."
    )
    rank: int = key("${tune.rank}", "Rank of each low-rank update: that of tune.")
    distill: float = key(
        0.9, "Weight of the dense model's predictions in the loss of a labelled text, in [0, 1]."
    )
    copies: int = key(
        0,
        "Versions of each train text with near words in place of some, labelled by the dense "
        "model; an epoch has one of them, or the text.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        within("retune", self, distill=(0, 1), copies=(0, 20))
        if not 0 <= self.budget < math.inf:
            raise ConfigError("retune.budget", self.budget, "must be at least 0 epochs")

    @property
    def versions(self) -> int:
        """Of each text that is taught: itself and ``copies`` more."""
        return 1 + self.copies
