"""The config groups ``tune`` and ``retune``: what is trained, how long, and at which rates."""

import math
from dataclasses import dataclass
from typing import ClassVar

from skip_exp.config.checks import one_of, positive, within
from skip_exp.config.keys import key
from skip_exp.config.prune import AUTO
from skip_exp.errors import ConfigError

TRAIN = ("none", "prompt", "prompt_readout", "bias", "lora", "full")
OWN = TRAIN[3:]  # these train weights of the backbone, so the model needs a copy of it
UPDATED = TRAIN[4:]  # these change every linear of the blocks
BASELINES = ("bias", "full")  # `tune.train` of models beside the method's own


@dataclass
class TrainConfig:
    phase: ClassVar[str] = "tune"
    trains: ClassVar[tuple[str, ...]] = TRAIN

    epochs: int | None = key(
        None,
        "Number of epochs; null: 6 with lora or full, else 8, or as many as make 60 (300) steps.",
    )
    lr: float | None = key(
        None, "Learning rate of the prompt; null: 0.002 with lora or full, else 0.02."
    )
    readout_lr: float = key(1e-3, "Learning rate of the readout.")
    batch: int = key(32, "Texts per step.")
    weight_decay: float = key(0.0, "Weight decay of AdamW.")
    warmup: float = key(0.06, "Fraction of all steps in which the learning rate rises.")
    dropout: bool | None = key(
        None, "Keep the backbone's own dropout active; null: yes, unless few rows are tuned on."
    )
    train: str = key(
        "lora",
        "prompt, prompt_readout, bias (also biases and norms), lora (bias, and low-rank updates of "
        "the block linears) or full (all weights).",
    )
    bias_lr: float | None = key(
        None,
        "Learning rate of the backbone's weights: biases and norms, or all; null: 0.001, with full "
        "0.0001 in tune and 0.0003 in retune.",
    )
    lora_lr: float = key(1e-3, "Learning rate of the factors of low-rank updates.")
    rank: int = key(8, "Rank of each low-rank update.")

    def __post_init__(self) -> None:
        if self.epochs is not None:
            positive(self.phase, self, epochs=10**6)
        if self.lr is not None:
            positive(self.phase, self, lr=10)
        positive(self.phase, self, batch=10**6, rank=10**4)
        if self.bias_lr is not None:
            within(self.phase, self, bias_lr=(0, 10))
        within(self.phase, self, readout_lr=(0, 10), weight_decay=(0, 10))
        within(self.phase, self, lora_lr=(0, 10), warmup=(0, 1))
        one_of(f"{self.phase}.train", self.train, self.trains)

    @property
    def prompt_lr(self) -> float:
        """The learning rate of the prompt: the given one, or what fits ``train``."""
        return self.lr or (2e-3 if self.train in UPDATED else 2e-2)

    @property
    def backbone_lr(self) -> float:
        """The learning rate of the backbone's weights: the given one, or what fits ``train``."""
        if self.bias_lr is not None:
            return self.bias_lr
        return 1e-3 if self.train != "full" else {"tune": 1e-4, "retune": 3e-4}[self.phase]


@dataclass
class TuneConfig(TrainConfig):
    trains: ClassVar[tuple[str, ...]] = (AUTO, *TRAIN)

    train: str = key(
        AUTO,
        "As in retune, or none; auto: lora, or prompt_readout with fewer than 1,000 train rows and "
        "no skill to start from.",
    )
    start: str | None = key(
        AUTO,
        "Dense skill to start from: folder, hub id, or one of the package; null: none; auto: "
        "`task.start`, with low-rank updates and where it fits.",
    )


@dataclass
class RetuneConfig(TrainConfig):
    phase: ClassVar[str] = "retune"
    trains: ClassVar[tuple[str, ...]] = TRAIN[1:]

    epochs: int | None = key(
        None,
        "Number of epochs; null: 3, or as many as make 200 steps, or more for a cheaper model "
        "(`retune.budget`).",
    )
    enabled: bool = key(True, "Train the pruned model again, from the dense model's prompt.")
    dropout: bool = key(False, "Keep the backbone's own dropout active.")
    distill: float = key(
        0.9, "Weight of the dense model's predictions in the loss of a labelled text, in [0, 1]."
    )
    copies: int | None = key(
        None,
        "Versions of each train text with near words in place of some, labelled by the dense "
        "model; an epoch has one of them, or the text; null: 4, with few rows 0.",
    )
    budget: float | None = key(
        None,
        "Cost in dense epochs: a cheaper model gets more epochs, unless their number is given; "
        "0: never more; null: 2, with few rows 1.2.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        within("retune", self, distill=(0, 1))
        if self.copies is not None:
            within("retune", self, copies=(0, 20))
        if self.budget is not None and not 0 <= self.budget < math.inf:
            raise ConfigError("retune.budget", self.budget, "must be at least 0 epochs")

    @property
    def versions(self) -> int:
        """Of each text that is taught: itself and ``copies`` more, of a job that has decided it."""
        assert self.copies is not None, "see config.decide"
        return 1 + self.copies
